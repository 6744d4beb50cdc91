"""Periodic tasks as the commands show them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_taskq.management.table import span, table
from django_taskq.periodic.status import Status, schedule_in_words, statuses


def look_at_periodic(now: float) -> list[Status] | None:
    """All of them at an epoch second; None where the database cannot be asked."""
    try:
        return statuses(dt.datetime.fromtimestamp(now, dt.UTC))
    except (DatabaseError, InterfaceError):
        return None


def facts(status: Status) -> dict[str, Any]:
    """One periodic task for programs."""
    row = status.row
    return {
        "name": row.name,
        "task": row.task,
        "cron": row.cron,
        "every": None if row.every is None else row.every.total_seconds(),
        "timezone": row.timezone,
        "enabled": row.enabled,
        "removed": row.removed_at is not None,
        "changed": row.changed,
        "next": _seconds(status.next),
        "late_since": _seconds(status.late),
        "last_tick": _seconds(row.last_tick),
        "last_task": None if row.last_task is None else str(row.last_task),
        "fired": status.note.fired,
        "late": status.note.late,
        "missed": status.note.missed,
        "overlapped": status.note.overlapped,
        "problem": status.problem,
    }


def periodic_table(found: Sequence[Status], now: dt.datetime) -> str:
    """A table; '' where there are none."""
    cells = [
        (
            status.row.name, schedule_in_words(status.row), _in(status.next, now), _ago(status.row.last_tick, now),
            status.note.fired, status.note.late, status.note.missed, state_of(status),
        )
        for status in found
    ]  # fmt: skip
    headings = ("PERIODIC", "SCHEDULE", "NEXT", "LAST", "FIRED", "LATE", "MISSED", "")
    return table(headings, cells, right=(4, 5, 6))


def state_of(status: Status) -> str:
    """What to know about it, in a word or a sentence; '' where all is well."""
    if status.row.removed_at is not None:
        return "removed from the code"
    if not status.row.enabled:
        return "disabled"
    if status.problem:
        return status.problem
    if status.late is not None:
        return "late: no worker fires it"
    return "changed here" if status.row.changed else ""


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _in(moment: dt.datetime | None, now: dt.datetime) -> str:
    return "-" if moment is None else f"in {span((moment - now).total_seconds())}"


def _ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    return "-" if moment is None else f"{span((now - moment).total_seconds())} ago"
