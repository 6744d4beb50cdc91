"""A delivery before its run: read, ended without a run where that is due, and bound to the task's parameters."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from django_taskq import registry
from django_taskq.core.message import Attempt, Message, UnknownVersion
from django_taskq.core.states import State
from django_taskq.exceptions import MalformedMessage
from django_taskq.signals import task_started
from django_taskq.worker import sealing
from django_taskq.worker.failure import Failure
from django_taskq.worker.malformed import malformed
from django_taskq.worker.outcomes import outcome_of
from django_taskq.worker.unknown import unknown_task, unknown_version
from django_taskq.worker.work import Work

if TYPE_CHECKING:
    from django_taskq.broker.delivery import Delivery, Settlement
    from django_taskq.worker.executor import Executor

logger = logging.getLogger("django_taskq.worker")

MOST_LOSSES = 3


def prepared(executor: Executor, delivery: Delivery) -> Work | Settlement:
    """Work to run, or how a delivery that is no batch ends without a run."""
    started = time.monotonic()
    try:
        message = Message.decode(delivery.fields)
        task = registry.find(message.task)
        if task is None:
            return unknown_task(executor, delivery, message)
        work = Work(delivery, message, task, started)
    except UnknownVersion as error:
        return unknown_version(executor, delivery, error)
    except MalformedMessage as error:
        return malformed(executor, delivery, error)
    if (
        delivery.losses or delivery.cancelled or delivery.instead
        or message.expires is not None or message.deadline is not None
    ):  # fmt: skip
        if work.sealed:
            sealing.adopt(work)
        ended = _ended_before(executor, work)
        if ended is not None:
            return ended
    try:
        work.args, work.kwargs = sealing.bind(work) if work.sealed else task.bind(message.args, message.kwargs)
    except BaseException as error:  # noqa: BLE001 - InvalidArguments; a type's own conversion may raise anything
        return sealing.unbound(executor, work, error)
    if task_started.receivers:
        _announce(work)
    if (message.gates or delivery.lane.queue in executor.rated) and executor.starts and task.batching is None:
        executor.starts.note(delivery, message.gates)
    return work


def _ended_before(executor: Executor, work: Work) -> Settlement | None:
    """How it ends if its time is up, or somebody or something ended it meanwhile."""
    message, delivery, now = work.message, work.delivery, executor.clock.now()
    if delivery.losses:
        message.losses += delivery.losses
        message.remember(Attempt(message.attempt + 1, now, now, "", "worker_lost"))
    if delivery.cancelled:
        return executor.cancelled(work, "cancelled before it was run again")
    if delivery.instead:
        return _without_a_run(executor, work, State.DISCARDED, delivery.instead)
    if message.losses >= MOST_LOSSES:
        text = f"The worker died {message.losses} times while it ran this task; it is not tried again."
        return executor.bury(work, Failure("", text, ""), "worker_lost")
    started_before = message.first_started is not None or message.losses > 0
    if message.expires is not None and not started_before and now * 1000 >= message.expires:
        return _without_a_run(executor, work, State.EXPIRED, "It did not start before its `expires`.")
    if message.deadline is not None:
        if now * 1000 < message.deadline:
            work.end_by(executor.clock.monotonic(message.deadline / 1000))
        elif started_before:
            return executor.bury(work, Failure("", "Its deadline passed before it was run again.", ""), "deadline")
        else:
            return _without_a_run(executor, work, State.EXPIRED, "It did not start before its deadline.")
    return None


def _without_a_run(executor: Executor, work: Work, state: State, reason: str) -> Settlement:
    return executor.ended(work, outcome_of(executor, work, state, reason=reason, ran=False), ran=False)


def _announce(work: Work) -> None:
    try:
        task_started.send_robust(
            work.task, task_id=work.context.id, queue=work.delivery.lane.queue, context=work.context
        )
    except BaseException:  # a receiver may raise SystemExit, which send_robust lets through
        logger.exception("%s %s: a receiver of task_started failed", work.task.name, work.context.id)
