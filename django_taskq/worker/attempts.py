"""What an attempt leaves in its message, which outlives the delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_taskq.core.message import Attempt
from django_taskq.sealed import seal_attempt
from django_taskq.worker.failure import HISTORY_TRACEBACK, Failure, shorten
from django_taskq.worker.outcomes import log_of, waited

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

HISTORY_LOG = 2_000  # bytes of an earlier attempt's own log


def note_start(executor: Executor, work: Work) -> None:
    """When the task was sent, and when it started first."""
    message, delivery, started = work.message, work.delivery, executor.clock.at(work.started)
    if message.enqueued is None:
        message.enqueued = int(delivery.entry.partition(b"-")[0])
    if message.first_started is None:
        message.first_started, message.waited = int(started * 1000), waited(delivery, started)


def note_attempt(executor: Executor, work: Work, failure: Failure, how: str) -> None:
    """That the attempt was made, by whom, and how it ended."""
    message, started = work.message, executor.clock.at(work.started)
    note_start(executor, work)
    message.attempt += 1
    message.worker_ids = message.ran_on(executor.worker)
    attempt = Attempt(
        message.attempt, started, executor.clock.now(), executor.worker, how, failure.error_class,
        failure.message, shorten(failure.traceback, HISTORY_TRACEBACK), log_of(work, HISTORY_LOG),
    )  # fmt: skip
    if work.sealed:
        seal_attempt(message, attempt)
    message.remember(attempt)
