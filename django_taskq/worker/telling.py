"""What is told of an attempt once its settlement stands, one log line and a signal; how the log names a delivery."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_taskq.core.fields import envelope_of
from django_taskq.core.ids import id_to_str
from django_taskq.exceptions import MalformedMessage
from django_taskq.logs import fields_of
from django_taskq.worker.batches import deliveries_of

if TYPE_CHECKING:
    from django.dispatch import Signal

    from django_taskq.broker.delivery import Delivery
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

task_logger = logging.getLogger("django_taskq.worker.tasks")  # how tasks fail, and not the worker


def name_of(delivery: Delivery) -> str:
    """For the log: the task, the id and the entry in Redis; of a batch, those of its first call."""
    first, *others = deliveries_of(delivery)
    try:
        message = envelope_of(first.fields)
        name = f"{message.task} {id_to_str(message.id)}"
    except MalformedMessage:
        name = "unreadable message"
    more = f" and {len(others)} more calls of its batch" if others else ""
    return f"{name} (entry {first.location.decode('utf-8', 'replace')}){more}"


def about(executor: Executor, work: Work) -> dict[str, object]:
    """What a log record says about an attempt, for those who do not read its text."""
    return {**fields_of(work.context), "worker": executor.worker, "duration": time.monotonic() - work.started}


def signal_of(work: Work, signal: Signal, **fields: Any) -> Callable[[], object]:
    """Sends a signal about an attempt."""
    task, id, queue, attempt = work.task, work.context.id, work.delivery.lane.queue, work.context.attempt
    return lambda: signal.send_robust(task, task_id=id, queue=queue, attempt=attempt, **fields)


def line_and_signal_of(
    executor: Executor, work: Work, level: int, text: str, signal: Signal, **fields: Any
) -> Callable[[], None]:
    """Logs a line about an attempt, as of now, and sends a signal with `fields`."""
    context, extra = work.context, about(executor, work)
    name, id, attempt, took = context.name, context.id, context.attempt, extra["duration"]
    send = signal_of(work, signal, **fields) if signal.receivers else None

    def tell() -> None:
        task_logger.log(level, "%s %s attempt %d after %.3f s %s", name, id, attempt, took, text, extra=extra)
        if send:
            send()

    return tell
