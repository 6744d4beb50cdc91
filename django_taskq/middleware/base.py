"""Middleware, Django style: TASKQ["MIDDLEWARE"] lists factories, which take the next callable and return one.

    def timing(call):
        def run(context, args, kwargs):
            started = time.monotonic()
            try:
                return call(context, args, kwargs)
            finally:
                logger.info("%s took %.3f s", context.name, time.monotonic() - started)
        return run

The first in the list is the outermost. What `run` returns is the result, what it raises decides over a retry. A factory
is called once per worker process for the tasks that are functions, and once, with a coroutine function to be awaited,
for those that are coroutine functions: if it is marked for that with Django's `sync_and_async_middleware`. One that is
not is refused where there are such tasks, because a thread for each of them would undo their concurrency. `around`
makes both kinds out of a context manager:

    @around
    @contextmanager
    def timing(context):
        ...

The producer's side is in sending.py. An attempt that is killed with its process passes through nothing any more; a
factory that wants to know of those has an attribute `in_supervisor`, which is called where they are settled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.signals import setting_changed
from django.utils.decorators import sync_and_async_middleware
from django.utils.module_loading import import_string

from django_taskq.conf import get_settings
from django_taskq.context import TaskContext
from django_taskq.registry import all_tasks

Call = Callable[[TaskContext, tuple[Any, ...], dict[str, Any]], Any]
Factory = Callable[[Call], Call]

_loaded: tuple[tuple[str, Any], ...] | None = None


def load_middleware() -> tuple[tuple[str, Any], ...]:
    """Path and factory of each entry of TASKQ["MIDDLEWARE"]; ImproperlyConfigured names one that cannot be imported."""
    global _loaded
    if _loaded is None:
        _loaded = tuple((path, _import(path)) for path in get_settings().middleware)
    return _loaded


def call_chain(innermost: Call) -> Call:
    """`innermost` inside all middleware, itself if there is none. A coroutine function makes an asynchronous chain.

    Raises ImproperlyConfigured for middleware that cannot wrap it, if there are tasks of its kind.
    """
    chain, is_async = innermost, iscoroutinefunction(innermost)
    for path, factory in reversed(load_middleware()):
        if not is_capable(factory, is_async=is_async):
            if any(task.is_async is is_async for task in all_tasks()):
                raise ImproperlyConfigured(f"TASKQ['MIDDLEWARE']: {path} {_remedy(is_async=is_async)}")
            continue
        try:
            wrapped = factory(chain)
        except MiddlewareNotUsed:
            continue
        if not callable(wrapped) or iscoroutinefunction(wrapped) is not is_async:
            kind = "coroutine function" if is_async else "function"
            raise ImproperlyConfigured(f"TASKQ['MIDDLEWARE']: {path} was given a {kind} and returned {wrapped!r:.100}.")
        chain = wrapped
    return chain


def enter_supervisor() -> None:
    """Before a supervisor settles what a killed process was running; again each time."""
    for _, factory in load_middleware():
        if (enter := getattr(factory, "in_supervisor", None)) is not None:
            enter()


def is_capable(factory: Any, *, is_async: bool) -> bool:
    """Whether a factory takes this kind of callable; unmarked ones take functions, as in Django."""
    return bool(getattr(factory, "async_capable", False) if is_async else getattr(factory, "sync_capable", True))


def _remedy(*, is_async: bool) -> str:
    if not is_async:
        return "is for coroutine functions only, and there are tasks that are none."
    return (
        "does not take coroutine functions, and there are tasks that are. Write it with "
        "django_taskq.middleware.around, or mark it with django.utils.decorators.sync_and_async_middleware."
    )


def around(manager: Callable[[TaskContext], AbstractContextManager[Any]]) -> Factory:
    """Middleware of a context manager that is entered around each attempt, in its thread or coroutine."""

    @sync_and_async_middleware
    def factory(call: Call) -> Call:
        def run(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            with manager(context):
                return call(context, args, kwargs)

        async def arun(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            with manager(context):
                return await call(context, args, kwargs)

        return arun if iscoroutinefunction(call) else run

    return factory


def _import(path: str) -> Any:
    try:
        factory = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"TASKQ['MIDDLEWARE']: {path} cannot be imported: {error}") from error
    if not callable(factory):
        raise ImproperlyConfigured(f"TASKQ['MIDDLEWARE']: {path} is not callable: {factory!r:.100}.")
    return factory


def _forget(setting: str, **_: object) -> None:
    global _loaded
    if setting == "TASKQ":
        _loaded = None


setting_changed.connect(_forget, dispatch_uid="django_taskq.middleware")
