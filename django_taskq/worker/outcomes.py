"""How a run ended, as the Outcome that the recorder turns into rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django_taskq.broker.broker import enqueued_at
from django_taskq.core.activity import activity
from django_taskq.core.message import Message, pack_fields
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.worker.failure import Failure

if TYPE_CHECKING:
    from django_taskq.broker.deliveries import Delivery
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

_NOTHING = Failure("", "", "")


def waited(delivery: Delivery, started: float) -> int:
    """Milliseconds from a message's arrival in its lane (sent, or due) to a start at `started` (epoch seconds)."""
    return max(0, int(started * 1000) - int(delivery.entry.partition(b"-")[0]))


def activity_of(executor: Executor, work: Work, state: str, *, ran: bool = True) -> str:
    """What statistics count of this delivery. `ran`: its attempt began."""
    if not ran:
        return activity(state, work.task.name)
    wait = waited(work.delivery, executor.clock.at(work.started))
    return activity(state, work.task.name, wait / 1000, time.monotonic() - work.started)


def outcome_of(
    executor: Executor, work: Work, state: State, *, result: bytes | None = None, result_error: str = "",
    reason: str = "", failure: Failure = _NOTHING, ran: bool = True,
) -> Outcome:  # fmt: skip
    """The outcome of a run without a dead letter. `ran`: this delivery's attempt began."""
    message, delivery = work.message, work.delivery
    if state is State.SUCCEEDED and not executor.recorded(message, work.task):
        return Outcome(message.id, message.run, "succeeded", False, result, result_error)
    started = executor.clock.at(work.started)
    first, wait = message.first_started, message.waited
    if ran and first is None:
        wait = waited(delivery, started)
    return Outcome(
        message.id, message.run, state.value, True, result, result_error, message.task, delivery.lane.queue,
        delivery.lane.priority, message.args, message.kwargs, message.attempt + ran, message.losses,
        enqueued_at(message, delivery.entry), first / 1000 if first else (started if ran else None),
        started if ran else None, executor.clock.now(), executor.worker,
        message.ran_on(executor.worker) if ran else message.worker_ids,
        failure.error_class, failure.message, failure.traceback, reason, message.history, message.idempotency_key,
        wait=None if wait is None else wait / 1000,
    )  # fmt: skip


def failure_outcome(
    executor: Executor,
    delivery: Delivery,
    message: Message,
    failure: Failure,
    reason: str,
    started: float | None = None,
) -> Outcome:
    """The outcome that becomes a dead letter. `started`: monotonic seconds of an attempt that ran; None: none did."""
    began = None if started is None else executor.clock.at(started)
    return Outcome(
        message.id, message.run, State.FAILED.value, True, None, "", message.task, delivery.lane.queue,
        delivery.lane.priority, message.args, message.kwargs, message.attempt, message.losses,
        enqueued_at(message, delivery.entry), message.first_started / 1000 if message.first_started else began, began,
        executor.clock.now(), executor.worker, message.worker_ids, failure.error_class, failure.message,
        failure.traceback, reason, message.history, message.idempotency_key, pack_fields(delivery.fields),
        None if message.waited is None else message.waited / 1000,
    )  # fmt: skip
