"""An exception as text that can be stored: whatever it is, however large, even if its own str() raises."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import NamedTuple

MESSAGE = 4_000  # characters
TRACEBACK = 30_000
HISTORY_TRACEBACK = 2_000
HIDDEN = "(what it says is sealed)"
_OWN = ("django_taskq/worker/", "django_taskq/middleware/", "django_taskq/testing/")


class Failure(NamedTuple):
    """`error_class` is a dotted path."""

    error_class: str
    message: str
    traceback: str


def describe(error: BaseException) -> Failure:
    """Never raises."""
    kind = type(error)
    name = _name_of(kind)
    try:
        text = "".join(traceback.format_exception(kind, error, _application_part(error.__traceback__), limit=-50))
    except BaseException:  # noqa: BLE001 - as above, and RecursionError or MemoryError
        text = f"{name}: <its traceback cannot be formatted>"
    return Failure(clean(name), text_of(error), clean(shorten(text, TRACEBACK)))


def _name_of(kind: type[BaseException]) -> str:
    try:
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return "<a class without a name>"


def line_of(failure: Failure, *, hidden: bool = False) -> str:
    """The error on one line; `hidden`: without what it says."""
    text = HIDDEN if hidden else " ".join(failure.message.split())
    return f"{failure.error_class}: {text[:300]}" if failure.error_class else text[:300]


def text_of(value: object) -> str:
    """Its str(), as text that can be stored. Never raises."""
    try:
        return clean(shorten(str(value), MESSAGE))
    except BaseException:  # noqa: BLE001 - str() of a foreign exception may raise anything
        return "<its str() raised an exception>"


def shorten(text: str, most: int) -> str:
    """Keeps the beginning and the end, which says what was raised."""
    if len(text) <= most:
        return text
    head = most // 4
    return f"{text[:head]}\n... {len(text) - most} characters left out ...\n{text[head - most :]}"


def clean(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _application_part(found: TracebackType | None) -> TracebackType | None:
    """Leaves out the worker's own frames at the outer end."""
    while found is not None and found.tb_next is not None:
        path = found.tb_frame.f_code.co_filename.replace("\\", "/")
        if not any(part in path for part in _OWN):
            break
        found = found.tb_next
    return found
