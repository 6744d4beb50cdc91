"""How a run ended, as the Outcome that the recorder turns into rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django_taskq.broker.found import enqueued_at
from django_taskq.core.activity import activity
from django_taskq.core.fields import pack_fields
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.sealed import seal_outcome
from django_taskq.worker.failure import Failure

if TYPE_CHECKING:
    from django_taskq.broker.delivery import Delivery
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

_NOTHING = Failure("", "", "")
SUCCEEDED = State.SUCCEEDED.value


def arrived(delivery: Delivery) -> int:
    """When a message came to its lane (sent, or due): epoch milliseconds."""
    return int(delivery.entry.partition(b"-")[0])


def waited(delivery: Delivery, started: float) -> int:
    """Milliseconds from a message's arrival in its lane to a start at `started` (epoch seconds)."""
    return max(0, int(started * 1000) - arrived(delivery))


def log_of(work: Work, most: int | None = None) -> str:
    """What is kept of what the attempt logged, at most so many bytes; '' where nothing is."""
    return "" if work.context.log is None else work.context.log.text(most)


def activity_of(executor: Executor, work: Work, state: str, *, ran: bool = True) -> str:
    """What statistics count of this delivery. `ran`: its attempt began."""
    name = work.task.name
    if not ran:
        work.delivery.spent = (name, None, None)
        return activity(state, name)
    wait, took = waited(work.delivery, executor.clock.at(work.started)) / 1000, time.monotonic() - work.started
    work.delivery.spent = (name, wait, took)
    return activity(state, name, wait, took)


def succeeded_outcome(executor: Executor, work: Work, result: bytes | None, result_error: str) -> tuple[Outcome, str]:
    """The outcome of a task that returned, and what statistics count of it. The way of most tasks: it does no more
    than it must."""
    message, delivery, offset = work.message, work.delivery, executor.clock.offset
    began, ended = work.started, time.monotonic()
    started, lane, worker = began + offset, delivery.lane, executor.worker
    ready = int(delivery.entry.partition(b"-")[0])  # ms; as `arrived`, without the call
    waited_ms = int(started * 1000) - ready
    wait = waited_ms / 1000 if waited_ms > 0 else 0.0
    name, took = work.task.name, ended - began
    delivery.spent = (name, wait, took)
    counted = activity(SUCCEEDED, name, wait, took)
    if not executor.recorded(message, work.task):
        unrecorded = Outcome(message.id, message.run, SUCCEEDED, False, result, result_error)
        return (seal_outcome(unrecorded, name) if work.sealed else unrecorded), counted
    first = message.first_started
    outcome = Outcome(
        message.id, message.run, SUCCEEDED, True, result, result_error, message.task, lane.queue, lane.priority,
        message.args, message.kwargs, message.attempt + 1, message.losses,
        (ready if message.enqueued is None else message.enqueued) / 1000, started if first is None else first / 1000,
        started, ended + offset, worker, message.ran_on(worker), "", "", "", "", message.history,
        message.idempotency_key, b"", wait if first is None else message.waited_seconds,
        "" if work.context.log is None else work.context.log.text(), message.origin,
    )  # fmt: skip
    return (seal_outcome(outcome, name) if work.sealed else outcome), counted


def outcome_of(
    executor: Executor, work: Work, state: State, *, reason: str, failure: Failure = _NOTHING, ran: bool = True
) -> Outcome:
    """The outcome of a run that neither succeeded nor failed. `ran`: this delivery's attempt began."""
    message, delivery = work.message, work.delivery
    started = executor.clock.at(work.started)
    first, wait = message.first_started, message.waited_seconds
    if ran and first is None:
        wait = waited(delivery, started) / 1000
    outcome = Outcome(
        message.id, message.run, state.value, True, None, "", message.task, delivery.lane.queue,
        delivery.lane.priority, message.args, message.kwargs, message.attempt + ran, message.losses,
        enqueued_at(message, delivery.entry), first / 1000 if first else (started if ran else None),
        started if ran else None, executor.clock.now(), executor.worker,
        message.ran_on(executor.worker) if ran else message.worker_ids,
        failure.error_class, failure.message, failure.traceback, reason, message.history, message.idempotency_key,
        wait=wait, log=log_of(work) if ran else "", origin=message.origin,
    )  # fmt: skip
    return seal_outcome(outcome, work.task.name) if work.sealed else outcome


def failure_outcome(
    executor: Executor,
    delivery: Delivery,
    message: Message,
    failure: Failure,
    reason: str,
    started: float | None = None,
    log: str = "",
) -> Outcome:
    """The outcome that becomes a dead letter. `started`: monotonic seconds of an attempt that ran; None: none did."""
    began = None if started is None else executor.clock.at(started)
    return Outcome(
        message.id, message.run, State.FAILED.value, True, None, "", message.task, delivery.lane.queue,
        delivery.lane.priority, message.args, message.kwargs, message.attempt, message.losses,
        enqueued_at(message, delivery.entry), message.first_started / 1000 if message.first_started else began, began,
        executor.clock.now(), executor.worker, message.worker_ids, failure.error_class, failure.message,
        failure.traceback, reason, message.history, message.idempotency_key, pack_fields(delivery.fields),
        message.waited_seconds, log, message.origin,
    )  # fmt: skip
