"""How periodic tasks are doing, for whoever looks: the admin, taskq_status, taskq_periodic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from django_taskq.broker import get_broker
from django_taskq.broker.periodic import Note, Ticks
from django_taskq.core.cron import in_words
from django_taskq.core.schedule import upcoming
from django_taskq.exceptions import TaskqError
from django_taskq.models import TaskResult
from django_taskq.periodic.arguments import is_refused
from django_taskq.periodic.firing import settled
from django_taskq.periodic.sync import rows
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import lookup

TOLERATED = dt.timedelta(seconds=30)  # a tick that nobody has fired for so long is said to be late

UNSEALED = "its arguments are plain, and its task has encrypt=True: `manage.py taskq_encryption reseal`"


class Status(NamedTuple):
    """One periodic task. `problem`: why it is not sent. `late`: since when a tick waits to be fired."""

    row: PeriodicTask
    note: Note
    next: dt.datetime | None = None
    late: dt.datetime | None = None
    problem: str = ""


def statuses(now: dt.datetime, found: Sequence[PeriodicTask] | None = None) -> list[Status]:
    """Of these rows, or of all; one round trip. Where Redis is away its notes are left out."""
    found = list(rows()) if found is None else found
    try:
        notes = Ticks(get_broker()).notes([row.name for row in found])
    except TaskqError:
        notes = [Note()] * len(found)
    return [_status(row, note, now) for row, note in zip(found, notes, strict=True)]


class Troubles(NamedTuple):
    """Names of periodic tasks that somebody should look at."""

    late: tuple[str, ...] = ()  # a tick waits to be fired, or cannot be
    failed: tuple[str, ...] = ()  # the last task ended as failed


def troubles(now: dt.datetime) -> Troubles:
    """Of all that are active; two queries at most. Raises database errors."""
    found = statuses(now, list(rows().filter(enabled=True, removed_at=None)))
    failed = {id for id, result in results_of([each.row for each in found]).items() if result.status == "failed"}
    return Troubles(
        tuple(each.row.name for each in found if each.late is not None or each.problem),
        tuple(each.row.name for each in found if each.row.last_task in failed),
    )


def next_ticks(row: PeriodicTask, now: dt.datetime, count: int) -> list[dt.datetime]:
    """The ticks to come; none where the schedule cannot be used."""
    try:
        return upcoming(row.times, now, count)
    except (ValueError, ImportError):
        return []


def schedule_in_words(row: PeriodicTask) -> str:
    """When it runs, in English; the schedule itself where it cannot be used."""
    if row.every is not None:
        return f"Every {_span(row.every)}"
    try:
        return f"{in_words(row.cron)} ({row.timezone or 'UTC'})"
    except Exception:  # noqa: BLE001 - cronsim's own errors, for a row that somebody edited past the form
        return row.cron


def results_of(found: Sequence[PeriodicTask]) -> dict[object, TaskResult]:
    """The recorded ends of the tasks that were last sent, by id."""
    ids = [row.last_task for row in found if row.last_task is not None]
    wanted = TaskResult.objects.filter(pk__in=ids).only("id", "status", "finished_at", "duration")
    return {result.pk: result for result in wanted} if ids else {}


def _status(row: PeriodicTask, note: Note, now: dt.datetime) -> Status:
    if not row.is_active:
        return Status(row, note)
    try:
        times = row.times
        waiting = times.after(settled(row, note, now))
        late = waiting if waiting is not None and now - waiting > TOLERATED else None
        task = lookup(row.task)
        problem = UNSEALED if task is not None and is_refused(row, task) else ""
        return Status(row, note, times.after(now), late, problem)
    except (ValueError, ImportError) as error:
        return Status(row, note, problem=str(error))


def _span(span: dt.timedelta) -> str:
    seconds = span.total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return unit if count == 1 else f"{count} {unit}s"
    return "second" if seconds == 1 else f"{seconds:g} seconds"
