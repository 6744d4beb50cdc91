"""What happens to tasks, for those who only listen.

`sender` is the Task, or its name (a str) where this process does not know it; for worker_* the worker's id (a str).
All are sent with `send_robust`: a receiver that raises is logged and changes nothing. They run on the hot path, where
the last column says: be quick.

task_enqueued    task_id, queue, handle                             the producer, after the broker accepted it
task_started     task_id, queue, context                            the task's own thread or event loop
task_succeeded   task_id, queue, attempt, duration                  once settled
task_retried     task_id, queue, attempt, duration, error, delay    once settled
task_failed      task_id, queue, attempt, duration, error, reason   once settled: it has a dead letter
task_cancelled   task_id, queue, attempt, reason                    once settled; where nobody held it, by its canceller
worker_started   queues                                             the supervisor
worker_stopped                                                      the supervisor
worker_process_started   queues                                     a task process, after its fork and before any task
worker_process_stopped                                              a task process, after its last task: flush here
operator_action  user, target, count                                admin and API, once somebody has done something

The sender of operator_action says what was done: "pause", "resume", "purge", "cancel", "quiet", "stop", "requeue",
"discard", "submit" and the like; `target` names the queue, worker, task or row ("" for many), `count` how many were
touched.

`task_id` is a string, `error` the exception or None, `context` the TaskContext; durations and
delays are seconds. Take **kwargs: more may be added.
"""

from __future__ import annotations

from django.dispatch import Signal

task_enqueued = Signal()
task_started = Signal()
task_succeeded = Signal()
task_retried = Signal()
task_failed = Signal()
task_cancelled = Signal()
worker_started = Signal()
worker_stopped = Signal()
worker_process_started = Signal()
worker_process_stopped = Signal()
operator_action = Signal()
