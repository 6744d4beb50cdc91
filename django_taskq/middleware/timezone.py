"""The time zone that is active where a task is sent is active while it runs.

TASKQ = {"MIDDLEWARE": ["django_taskq.middleware.timezone.timezone", ...]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone as django_timezone

from django_taskq.context import TaskContext
from django_taskq.middleware.base import Factory, around
from django_taskq.middleware.headers import header_of

HEADER = "context:timezone"
_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*").fullmatch
LONGEST = 64  # characters


@contextmanager
def _active(context: TaskContext) -> Iterator[None]:
    zone = _zone(header_of(context, HEADER))
    if zone is None:
        yield
        return
    with django_timezone.override(zone):
        yield


def _zone(name: str) -> ZoneInfo | None:
    """None for a name that this machine's database does not have."""
    if len(name) > LONGEST or _NAME(name) is None:
        return None
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None


def _headers(*_: Any) -> dict[str, str]:
    # A zone that is no ZoneInfo, such as a fixed offset, has no name by which it could be found again.
    name = getattr(django_timezone.get_current_timezone(), "key", None)
    return {HEADER: name} if name else {}


timezone: Factory = around(_active)
timezone.headers = _headers  # type: ignore[attr-defined]
