"""One delivery from its fields to its settlement: prepare (preparing.py), run (the pools), conclude.

Everything that can be wrong with a message ends here as a settlement; a worker never dies of a message.
"""

from __future__ import annotations

import logging
import time
from typing import Any, cast

from django_taskq.broker.delivery import Delivery, Settlement, bury, complete, release, retry
from django_taskq.broker.keys import Keys
from django_taskq.conf import Settings
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, encode_outcome
from django_taskq.core.retry import before_deadline, decide
from django_taskq.core.states import State
from django_taskq.exceptions import (
    BreakerOpen,
    HardTimeout,
    TaskCancelled,
    TaskTimeout,
)
from django_taskq.sealed import seal_outcome
from django_taskq.signals import task_cancelled, task_failed, task_retried, task_succeeded
from django_taskq.task import Task
from django_taskq.worker import batches, broken, sealing
from django_taskq.worker.attempts import note_attempt, note_start
from django_taskq.worker.clock import Clock
from django_taskq.worker.failure import HIDDEN, Failure, describe, line_of, text_of
from django_taskq.worker.malformed import malformed
from django_taskq.worker.outcomes import (
    SUCCEEDED,
    activity_of,
    failure_outcome,
    log_of,
    outcome_of,
    succeeded_outcome,
)
from django_taskq.worker.preparing import prepared
from django_taskq.worker.starts import Starts
from django_taskq.worker.telling import about, line_and_signal_of, signal_of, task_logger
from django_taskq.worker.work import Work

logger = logging.getLogger("django_taskq.worker")


class Executor:
    """Decides; the pools run. One for a task process, used by all its threads."""

    def __init__(self, worker: str, keys: Keys, settings: Settings, clock: Clock, starts: Starts | None = None) -> None:
        self.worker, self.keys, self.clock = worker, keys, clock
        self.starts, self.rated = starts, frozenset(starts.rated if starts else ())
        self._record = settings.record

    def prepare(self, delivery: Delivery) -> Work | Settlement | list[Settlement]:
        """Work to run, or how the delivery ends without a run. Never raises."""
        try:
            if delivery.__class__ is batches.Batch:
                return batches.prepare_batch(self, delivery)
            return prepared(self, delivery)
        except BaseException as fault:  # noqa: BLE001
            sealing.log_fault(logger, delivery, fault, "it cannot be run")
            return self.broken(delivery, fault)

    def concluded(self, work: Work, result: Any, error: BaseException | None) -> Settlement | list[Settlement]:
        """How a run ends that returned `result` or raised `error`; of a batch, how each call does. Never raises."""
        try:
            if work.__class__ is batches.BatchWork:
                return batches.conclude_batch(self, work, result, error)
            settlement = self.succeeded(work, result) if error is None else self.failed(work, error)
            return settlement if work.task.circuit_breaker is None else broken.told(settlement, work, error)
        except BaseException as fault:  # noqa: BLE001
            sealing.log_fault(logger, work.delivery, fault, "its end cannot be described", extra=about(self, work))
            return self.broken(work.delivery, fault)

    def succeeded(self, work: Work, result: Any) -> Settlement:
        """The task returned. A result that cannot be stored never runs it again."""
        encoded, problem = None, ""
        if result is not None:
            try:
                encoded = work.task.encode_result(result)
            except BaseException as error:  # noqa: BLE001 - a ResultError, or anything from a result's own hooks
                problem = describe(error).message
        if problem:
            task_logger.warning(
                "%s %s succeeded, but its result is not stored: %s", work.task.name, work.context.id,
                HIDDEN if work.sealed else problem,
                extra=about(self, work),
            )  # fmt: skip
        outcome, counted = succeeded_outcome(self, work, encoded, problem)
        then, message, key, ttl = None, work.message, "", 0
        if task_succeeded.receivers:
            then = signal_of(work, task_succeeded, duration=time.monotonic() - work.started)
        if message.idempotency_key:
            key, ttl = self.key_of(message), message.idempotency_ttl * 1000
        return complete(work.delivery, message.id, SUCCEEDED, encode_outcome(outcome), counted, key, ttl, then=then)

    def failed(self, work: Work, error: BaseException) -> Settlement:
        """The task raised, ran out of time, or was cancelled."""
        if issubclass(type(error), TaskCancelled):
            return self.cancelled(work, "cancelled while it ran", ran=True)
        if issubclass(type(error), BreakerOpen):
            return broken.put_off(self, work, cast("BreakerOpen", error))
        context, failure = work.context, describe(error)
        task = work.task
        decision = decide(
            error, attempt=context.attempt, max_retries=context.max_retries, backoff=task.backoff,
            retry_on=task.retry_on, discard_on=task.discard_on,
        )  # fmt: skip
        if work.message.deadline is not None:
            decision = before_deadline(decision, type(error), work.message.deadline / 1000 - self.clock.now())
        if decision.kind == "bury":
            reason = "hard_timeout" if issubclass(type(error), HardTimeout) else decision.reason
            return self.bury(work, failure, reason, error, ran=True)
        if decision.kind == "discard":
            reason = HIDDEN if work.sealed else text_of(decision.reason)
            task_logger.info("%s %s discarded: %s", task.name, context.id, reason, extra=about(self, work))
            outcome = outcome_of(self, work, State.DISCARDED, reason=reason, failure=failure)
            return self.ended(work, outcome)
        return self._retry(work, failure, decision.delay, error)

    def refused(self, work: Work, error: BaseException) -> Settlement:
        """The run ended in an error after which no other attempt makes sense."""
        return self.bury(work, describe(error), "failed", error, ran=True)

    def broken(self, delivery: Delivery, fault: BaseException) -> Settlement | list[Settlement]:
        """A fault of the worker itself: a dead letter with the reason `malformed`, for each call of a batch."""
        ends = [malformed(self, each, fault) for each in batches.deliveries_of(delivery)]
        return ends if len(ends) > 1 else ends[0]

    def _retry(self, work: Work, failure: Failure, delay: float, error: BaseException) -> Settlement:
        message, number, duration = work.message, work.context.attempt, time.monotonic() - work.started
        plan = f"attempt {number + 1} of {work.context.max_retries + 1} in {delay:.1f} s"
        then = line_and_signal_of(
            self, work, logging.WARNING, f"failed: {line_of(failure, hidden=work.sealed)}; {plan}", task_retried,
            error=error, delay=delay, duration=duration,
        )  # fmt: skip
        note_attempt(self, work, failure, "retry")
        return retry(
            work.delivery, message.id, delay, message.fields(), activity_of(self, work, "retried"), then=then,
            instead=lambda: self.cancelled(work, "cancelled before its next attempt"),
        )  # fmt: skip

    def bury(
        self, work: Work, failure: Failure, reason: str, error: BaseException | None = None, *, ran: bool = False
    ) -> Settlement:
        message, duration = work.message, time.monotonic() - work.started
        then = line_and_signal_of(
            self, work, logging.ERROR, f"failed: {line_of(failure, hidden=work.sealed)}; dead letter ({reason})",
            task_failed, error=error, reason=reason, duration=duration,
        )  # fmt: skip
        if ran:
            note_attempt(self, work, failure, "timeout" if issubclass(type(error), TaskTimeout) else "failed")
        started, log = (work.started, log_of(work)) if ran else (None, "")
        outcome = failure_outcome(self, work.delivery, message, failure, reason, started, log)
        if work.sealed:
            seal_outcome(outcome, work.task.name)
        counted = activity_of(self, work, "failed", ran=ran)
        return bury(
            work.delivery, message.id, reason, encode_outcome(outcome), counted, self.key_of(message), then=then
        )

    def cancelled(self, work: Work, reason: str, *, ran: bool = False) -> Settlement:
        """Somebody asked for it."""
        outcome = outcome_of(self, work, State.CANCELLED, reason=reason, ran=ran)
        then = line_and_signal_of(self, work, logging.INFO, reason, task_cancelled, reason=reason)
        return self.ended(work, outcome, ran=ran, then=then)

    def ended(self, work: Work, outcome: Outcome, *, ran: bool = True, **more: Any) -> Settlement:
        """Neither succeeded nor failed: its idempotency key is free."""
        id, counted = work.message.id, activity_of(self, work, outcome.status, ran=ran)
        key = self.key_of(work.message)
        return complete(work.delivery, id, outcome.status, encode_outcome(outcome), counted, key, **more)

    def recorded(self, message: Message, task: Task[..., Any]) -> bool:
        """Whether a success becomes a row. A requeued task's always does: its dead letter must learn of it."""
        record = message.options.get("record") if message.options else None
        return (record or task.record or self._record) == "all" or message.run > 1

    def key_of(self, message: Message) -> str:
        """The full name of a message's idempotency key, or ''."""
        return self.keys.idempotency_of(message)

    def handed_on(self, work: Work) -> Settlement | list[Settlement]:
        """What has started here goes to other workers. Where a first start counts, its message must say that it was."""
        if isinstance(work, batches.BatchWork):
            return [settlement for each in work.works for settlement in batches.settlements_of(self.handed_on(each))]
        message = work.message
        if (
            (message.expires is None and message.deadline is None)
            or message.first_started is not None
            or message.losses
        ):
            return release(work.delivery)
        note_start(self, work)
        counted = activity_of(self, work, "retried")
        work.delivery.spent = None  # to the metrics it is no attempt that failed
        return retry(
            work.delivery, message.id, 0, message.fields(), counted,
            instead=lambda: self.cancelled(work, "cancelled while it was handed on"),
        )  # fmt: skip
