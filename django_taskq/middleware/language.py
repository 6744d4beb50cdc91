"""The language that is active where a task is sent is active while it runs.

TASKQ = {"MIDDLEWARE": ["django_taskq.middleware.language.language", ...]}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.utils import translation

from django_taskq.context import TaskContext
from django_taskq.middleware.base import Factory, around
from django_taskq.middleware.headers import header_of

HEADER = "context:language"
LONGEST = 35  # characters; RFC 5646, section 4.4.1


@contextmanager
def _active(context: TaskContext) -> Iterator[None]:
    """A language that this worker does not have changes nothing."""
    code = header_of(context, HEADER)
    if not code or len(code) > LONGEST or not translation.check_for_language(code):
        yield
        return
    with translation.override(code):
        yield


def _headers(*_: Any) -> dict[str, str]:
    code = translation.get_language()  # None inside of deactivate_all()
    return {HEADER: code} if code else {}


language: Factory = around(_active)
language.headers = _headers  # type: ignore[attr-defined]
