"""`@task`: makes a task of a function, where it can be one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, Literal, Protocol, Unpack, overload

from asgiref.sync import iscoroutinefunction

from django_taskq.batch import BatchDecorator
from django_taskq.context import TaskContext
from django_taskq.exceptions import InvalidTask
from django_taskq.registry import register
from django_taskq.sender import P, R
from django_taskq.task import AsyncTask, Task
from django_taskq.typed_options import Options


class Decorator(Protocol):
    """What `@task(...)` applies to a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class ContextDecorator(Protocol):
    """What `@task(takes_context=True, ...)` applies to a function. Callers leave the context out."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(*, takes_context: Literal[True], **options: Unpack[Options]) -> ContextDecorator: ...
@overload
def task(*, batch: int, batch_timeout: float | timedelta = ..., **options: Unpack[Options]) -> BatchDecorator: ...
@overload
def task(*, takes_context: Literal[False] = False, **options: Unpack[Options]) -> Decorator: ...
def task(function: Any = None, /, *, takes_context: bool = False, **options: Any) -> Any:
    """Makes a module-level function a task: `@task`, or `@task(queue_name="mail", max_retries=5)`.

    The function stays callable as it is. Raises InvalidTask, at import, for a function that no worker could find and
    for options that are unknown or contradict each other; UnknownQueue for a queue that TASKQ does not declare.
    """
    if function is None:
        return functools.partial(_make, takes_context=takes_context, options=options)
    return _make(function, takes_context=takes_context, options=options)


def _make(function: Any, *, takes_context: bool, options: dict[str, Any]) -> Task[..., Any]:
    _refuse_unusable(function)
    kind: type[Task[..., Any]] = AsyncTask if iscoroutinefunction(function) else Task
    made = kind(function, takes_context=takes_context, **options)
    register(made)
    return made


def _refuse_unusable(function: Any) -> None:
    """InvalidTask for what no worker could import by its name, or could not run to a result."""
    if not inspect.isfunction(function):
        shown = f"a {type(function).__name__}" if not isinstance(function, type) else f"the class {function.__name__}"
        raise InvalidTask(f"@task goes on a module-level function, not on {shown} ({function!r:.100}).")
    where = f"{function.__module__}.{function.__qualname__}"
    if function.__name__ == "<lambda>":
        raise InvalidTask(f"{where}: a lambda cannot be a task, because no worker finds it by its name. Use def.")
    if "." in function.__qualname__:
        raise InvalidTask(
            f"{where}: a task must be a function at the top level of a module, where workers find it by its name; "
            "not a method and not a function inside another."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTask(f"{where}: a generator cannot be a task. Collect what it yields and return it.")
