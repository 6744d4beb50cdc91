"""Middleware for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import MiddlewareNotUsed
from django.utils.decorators import async_only_middleware, sync_and_async_middleware

from django_taskq import TaskContext
from django_taskq.core.message import Message
from django_taskq.middleware import Call, Sending, around

log: list[str] = []


def noting(name: str) -> Any:
    @around
    @contextmanager
    def note(context: TaskContext) -> Iterator[None]:
        log.append(f"{name} before {context.name}")
        try:
            yield
        finally:
            log.append(f"{name} after")

    return note


outer, inner = noting("outer"), noting("inner")


def plain(call: Call) -> Call:
    """Written for functions, as the simplest middleware is."""

    def run(context: TaskContext, args: Any, kwargs: Any) -> Any:
        return [call(context, args, kwargs), context.headers.get("tenant")]

    return run


def tenant(task: Any, message: Message) -> dict[str, str]:
    return {"tenant": "acme", "task": task.name}


plain.headers = tenant  # type: ignore[attr-defined]


@async_only_middleware
def only_async(call: Call) -> Call:
    async def run(context: TaskContext, args: Any, kwargs: Any) -> Any:
        return [await call(context, args, kwargs)]

    return run


@contextmanager
def note_sending(sending: Sending) -> Iterator[None]:
    kind = "deferred" if sending.deferred else "sent"
    log.append(f"{sending.count} {kind} to {sending.queue} with {sending.message and sending.message.headers}")
    yield
    log.append("after")


def courier(call: Call) -> Call:
    return call


courier.sending = note_sending  # type: ignore[attr-defined]
courier.headers = lambda task, message: log.append("headers") or {"tenant": "acme"}  # type: ignore[attr-defined]


class Both:
    """A class: the factory is the class, the callable its instance."""

    sync_capable = True
    async_capable = False

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self, context: TaskContext, args: Any, kwargs: Any) -> Any:
        return {"wrapped": self.call(context, args, kwargs)}

    @staticmethod
    def headers(task: Any, message: Message) -> dict[str, str] | None:
        return None


@sync_and_async_middleware
def unused(call: Call) -> Call:
    raise MiddlewareNotUsed


def returns_nothing(call: Call) -> None:
    return None


@sync_and_async_middleware
def forgets_to_await(call: Call) -> Call:
    return lambda context, args, kwargs: call(context, args, kwargs)


def with_headers(given: Any) -> Any:
    def factory(call: Call) -> Call:
        return call

    factory.headers = lambda task, message: given  # type: ignore[attr-defined]
    return factory


reserved, numeric, no_dict = with_headers({"trace": "1"}), with_headers({"x": 1}), with_headers(["x"])
prefixed = with_headers({"context:x": "1"})
not_callable = 7
