"""Periodic tasks in and out."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from msgspec import UNSET, Struct

from django_taskq.api.schemas import Time


class PeriodicTask(Struct, kw_only=True):
    """Either `cron` or `every` (seconds) says when. Without `view_arguments`, `args` and `kwargs` are left out."""

    name: str
    task: str
    cron: str
    every: float | None
    timezone: str  # of cron
    words: str  # the schedule in English
    jitter: float  # seconds
    catch_up: Literal["once", "skip"]
    overlap: bool
    enabled: bool
    declared: bool  # in the code; otherwise it was made in the admin
    changed: bool  # it was edited, and does not follow the code
    removed_at: Time | None  # from the code: it is not sent
    next_at: Time | None
    late_since: Time | None  # when a tick was due that nobody has sent
    last_tick_at: Time | None
    last_task: uuid.UUID | None
    sent: int
    late: int  # of those sent
    missed: int
    overlapped: int  # left out, because the one before was still on its way
    problem: str  # why it is not sent
    args: Any = UNSET
    kwargs: Any = UNSET


class PeriodicTasks(Struct):
    """Periodic tasks, by name."""

    items: list[PeriodicTask]
    next_cursor: str | None


class PeriodicRun(Struct):
    """What was sent; it is no tick."""

    name: str
    id: uuid.UUID


class PeriodicEnabled(Struct):
    """`changed` is false where it was so before."""

    name: str
    enabled: bool
    changed: bool
