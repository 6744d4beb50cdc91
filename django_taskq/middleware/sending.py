"""Middleware on the producer's side.

A factory with an attribute `headers`, a callable (task, message) -> dict of strings, adds headers to each message; the
worker's side finds them in `context.headers`. One with an attribute `sending`, a callable (Sending) -> context manager,
goes around each call that sends: one delay(), or all of a delay_many(). The headers are made inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from django_taskq.middleware.base import load_middleware
from django_taskq.producer import Sending

if TYPE_CHECKING:
    from django_taskq.core.message import Message
    from django_taskq.task import Task

# Middleware of this package uses these, and names that begin with one and a colon.
RESERVED_HEADERS = frozenset({"trace", "context", "key_id", "sentry"})


@contextmanager
def around_sending(sending: Sending) -> Iterator[None]:
    """Inside all middleware that goes around the sending; the first in the list is the outermost."""
    with ExitStack() as stack:
        for _path, factory in load_middleware():
            manager = getattr(factory, "sending", None)
            if manager is not None:
                stack.enter_context(manager(sending))
        yield


def headers_for(task: Task[..., Any], message: Message) -> dict[str, str]:
    """The headers that middleware gives a message; ImproperlyConfigured for one that is no string, or reserved."""
    headers: dict[str, str] = {}
    for path, factory in load_middleware():
        source = getattr(factory, "headers", None)
        if source is not None and (given := source(task, message)):
            headers |= _checked(path, given)
    return headers


def _checked(path: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{path}.headers must return a dict of strings, not {given!r:.100}.")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ImproperlyConfigured(f"{path}.headers: {name!r}: {value!r:.100} is not a string for a string.")
        if name.partition(":")[0] in RESERVED_HEADERS and not path.startswith("django_taskq."):
            raise ImproperlyConfigured(
                f"{path}.headers: {name!r} is reserved. Use a name of your own, like 'x-{name}'."
            )
    return dict(given)
