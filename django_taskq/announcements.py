"""Signals of ends that no running task brings about: dead letters that nobody could run, tasks cancelled as they wait.

The sender is the Task, or its name where this process does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.registry import lookup
from django_taskq.signals import task_cancelled, task_failed

if TYPE_CHECKING:
    from django_taskq.broker import Found


def dead_letter(message: Message, queue: str, reason: str, error: BaseException | None = None) -> Callable[[], None]:
    """What to call once it is settled."""

    def tell() -> None:
        task_failed.send_robust(
            lookup(message.task) or message.task, task_id=id_to_str(message.id), queue=queue, attempt=message.attempt,
            duration=0.0, error=error, reason=reason,
        )  # fmt: skip

    return tell


def cancelled(message: Message, queue: str, reason: str) -> Callable[[], None]:
    """What to call once it is settled."""

    def tell() -> None:
        task_cancelled.send_robust(
            lookup(message.task) or message.task, task_id=id_to_str(message.id), queue=queue, attempt=message.attempt,
            reason=reason,
        )  # fmt: skip

    return tell


def of_cancel(reason: str = "cancelled") -> Callable[[Found], None] | None:
    """What `Broker.cancel()` calls with each task that it ends as no worker holds it; None where nobody listens."""

    def tell(found: Found) -> None:
        if found.message is not None:
            cancelled(found.message, found.queue, reason)()

    return tell if task_cancelled.receivers else None
