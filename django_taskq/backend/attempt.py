"""One attempt as `django.tasks` knows it: its signals, its context, its idea of a return value.

The signals are sent where the task runs, before its settlement: a receiver may use the database, and one of a failure
finds the exception in `sys.exc_info()`. So a worker that dies in between has announced an attempt that is made again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from django_taskq.backend import lookup, results
from django_taskq.backend.codec import plain
from django_taskq.core.states import State
from django_taskq.exceptions import ResultError
from django_taskq.middleware.fate import fate_of
from django_taskq.worker.failure import describe

if TYPE_CHECKING:
    from django_taskq.backend.adapted import AdaptedTask
    from django_taskq.context import TaskContext

logger = logging.getLogger("django_taskq.worker")

REMEMBERED = 10_000
told: set[str] = set()  # ids of tasks whose end was announced here, and is settled a moment later in this process


def run(task: AdaptedTask, context: TaskContext, /, *args: Any, **kwargs: Any) -> Any:
    """Runs a function."""
    attempt = Attempt(task, context)
    attempt.tell(task.framework.task_started)
    try:
        value = attempt.checked(task.function(*attempt.first, *args, **kwargs))
    except BaseException as error:
        if attempt.failed(error):
            attempt.tell(task.framework.task_finished)
        raise
    attempt.succeeded(value)
    attempt.tell(task.framework.task_finished)
    return value


async def arun(task: AdaptedTask, context: TaskContext, /, *args: Any, **kwargs: Any) -> Any:
    """Runs a coroutine function. Receivers that are functions run in a thread, with the same `sys.exc_info()`."""
    attempt = Attempt(task, context)
    await attempt.atell(task.framework.task_started)
    try:
        value = attempt.checked(await task.function(*attempt.first, *args, **kwargs))
    except BaseException as error:
        if attempt.failed(error):
            await attempt.atell(task.framework.task_finished)
        raise
    attempt.succeeded(value)
    await attempt.atell(task.framework.task_finished)
    return value


class Attempt:
    """`first` is what the function is given before its arguments: the context, if it takes one."""

    def __init__(self, task: AdaptedTask, context: TaskContext) -> None:
        framework = task.framework
        self._task, self._context = task, context
        known = results.of_message(context.message, context.queue, context.message.priority, State.RUNNING)
        known.start(context.worker, timezone.now())
        alias = known.origin.alias or task.alias
        self.result = results.result_of(framework, task, known, alias)
        self.sender = lookup.sender_of(task, alias)
        self.first = (framework.context_class(task_result=self.result),) if task.passes_context else ()

    def checked(self, value: Any) -> Any:
        """The return value in JSON's types. One that JSON cannot hold is a failure, but no reason to run it again."""
        try:
            value = plain(value)
            self._task.encode_result(value)
        except (TypeError, ValueError, ResultError):
            self._context.max_retries = 0
            raise
        return value

    def succeeded(self, value: Any) -> None:
        """Notes the end in the result."""
        self._ended(self._task.framework.status.SUCCESSFUL, _return_value=value)

    def failed(self, error: BaseException) -> bool:
        """Notes an end in the result. False: it is none, because another attempt follows or it counts for nothing."""
        place = self._context.place
        if getattr(place, "abandoned", False) or isinstance(error, GeneratorExit):
            return False
        interruption = getattr(place, "interruption", None)
        if interruption is not None and isinstance(error, asyncio.CancelledError):
            error = interruption()
        fate = fate_of(self._context, error)
        if fate in {"retried", "put_off"}:
            return False
        failure = describe(error)
        found = results.error_of(self._task.framework, failure.error_class, failure.traceback)
        self._ended(self._task.framework.status.FAILED, errors=[*self.result.errors, found])
        if fate != "discarded":  # which no signal of ours follows
            if len(told) >= REMEMBERED:  # of settlements that were void
                told.clear()
            told.add(self.result.id)
        return True

    def _ended(self, status: Any, **values: Any) -> None:
        for name, value in {"status": status, "finished_at": timezone.now(), **values}.items():
            object.__setattr__(self.result, name, value)

    def tell(self, signal: Any) -> None:
        """A receiver that raises is logged and changes nothing."""
        try:
            signal.send_robust(sender=self.sender, task_result=self.result)
        except (SystemExit, KeyboardInterrupt):
            logger.exception("a receiver of a signal of %s failed", self._task.framework.name)

    async def atell(self, signal: Any) -> None:
        """As `tell`, in a thread. (`asend_robust` would leave the exception behind.)"""
        error = sys.exc_info()[1]
        before = None if error is None else error.__traceback__
        await sync_to_async(self.tell)(signal)
        if error is not None:
            error.__traceback__ = before
