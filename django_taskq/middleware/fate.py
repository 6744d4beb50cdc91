"""What becomes of an attempt, for middleware that must know before the worker has settled it."""

from __future__ import annotations

import asyncio
from typing import Literal

from django_taskq.context import TaskContext
from django_taskq.core.retry import what_follows
from django_taskq.exceptions import BreakerOpen, TaskCancelled, TaskTimeout

Fate = Literal["succeeded", "retried", "put_off", "failed", "discarded", "cancelled"]
_FATES: dict[str, Fate] = {"retry": "retried", "bury": "failed", "discard": "discarded"}


def meant_by(context: TaskContext, error: BaseException) -> BaseException:
    """What interrupted a coroutine, which itself has seen a CancelledError: a TaskTimeout or TaskCancelled."""
    interruption: type[BaseException] | None = getattr(context.place, "interruption", None)
    if interruption is None or not issubclass(type(error), asyncio.CancelledError):
        return error
    return interruption().with_traceback(error.__traceback__)


def fate_of(context: TaskContext, error: BaseException | None) -> Fate:
    """How an attempt ends that returned (None) or raised `error`.

    A worker that lost the task meanwhile, a request to cancel it, or a deadline that the next attempt would miss, may
    still make something else of it.
    """
    if getattr(context.place, "abandoned", False):  # it ignored its time limit, and was settled for that by then
        kind: type[BaseException] = TaskTimeout
    elif error is None:
        return "succeeded"
    else:
        kind = type(meant_by(context, error))
    if issubclass(kind, TaskCancelled):
        return "cancelled"
    if issubclass(kind, BreakerOpen):  # it is tried again, and no attempt is used
        return "put_off"
    task = context.task
    follows = what_follows(
        kind, attempt=context.attempt, max_retries=context.max_retries, retry_on=task.retry_on,
        discard_on=task.discard_on,
    )  # fmt: skip
    return _FATES[follows]
