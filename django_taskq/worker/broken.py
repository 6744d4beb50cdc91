"""What an attempt means for circuit breakers: its end is told to the task's own, and an open one puts it off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from django_taskq.breaker import verdict_of
from django_taskq.broker import scripts
from django_taskq.broker.delivery import Settlement, retry
from django_taskq.core.activity import activity
from django_taskq.exceptions import BreakerOpen, TaskqError
from django_taskq.logs import fields_of
from django_taskq.worker.attempts import note_start
from django_taskq.worker.telling import name_of

if TYPE_CHECKING:
    from django_taskq.breaker import Breaker
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

logger = logging.getLogger("django_taskq.worker")

SHORTEST = 1.0  # seconds until a task that met an open breaker is tried again


def told(settlement: Settlement, work: Work, error: BaseException | None) -> Settlement:
    """The settlement, after which the task's breaker learns how the attempt ended."""
    breaker = cast("Breaker", work.task.circuit_breaker)
    verdict, then, token = verdict_of(error), settlement.then, work.message.id
    if error is not None and settlement.script is scripts.COMPLETE:
        verdict = "neither"  # discarded or cancelled

    def tell() -> None:
        try:
            breaker.ask(verdict, token)
        except TaskqError as problem:
            logger.warning("breaker %s was not told how %s ended: %s", breaker.name, name_of(work.delivery), problem)
        if then is not None:
            then()

    return settlement._replace(then=tell)


def put_off(executor: Executor, work: Work, error: BreakerOpen) -> Settlement:
    """Back to the schedule until the breaker may be asked again; no attempt is used."""
    message = work.message
    note_start(executor, work)
    about = {**fields_of(work.context), "worker": executor.worker}
    why = f"circuit breaker {error.breaker} is open" if work.sealed else error
    logger.info("%s %s put off: %s", work.task.name, work.context.id, why, extra=about)
    return retry(
        work.delivery, message.id, max(SHORTEST, error.seconds), message.fields(),
        activity("retried", work.task.name),
        instead=lambda: executor.cancelled(work, "cancelled while a circuit breaker was open"),
    )  # fmt: skip
