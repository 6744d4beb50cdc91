"""Periodic tasks: look at them, enable and disable them, run one now."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

import msgspec
from msgspec import UNSET

from django_taskq.api.auth import Actor
from django_taskq.api.convert import as_json, utc
from django_taskq.api.errors import ApiError, not_found
from django_taskq.api.log import Target, log
from django_taskq.api.paging import clamp, decode_cursor, encode_cursor
from django_taskq.api.schemas import Page
from django_taskq.api.schemas_periodic import PeriodicEnabled, PeriodicRun, PeriodicTask, PeriodicTasks
from django_taskq.broker import get_broker
from django_taskq.periodic import actions
from django_taskq.periodic.arguments import shown
from django_taskq.periodic.status import Status, schedule_in_words, statuses
from django_taskq.periodic.sync import rows
from django_taskq.periodic_task import PeriodicTask as Row
from django_taskq.registry import lookup


def index(actor: Actor, query: Page) -> PeriodicTasks:
    """The periodic tasks, those that are disabled included."""
    limit = clamp(query.limit)
    after = decode_cursor(query.cursor, tuple[str])[0] if query.cursor else ""
    if "\x00" in after:  # in no name, and PostgreSQL refuses to compare with it
        raise ApiError(400, "invalid_cursor", "The cursor is not one that this list gave.")
    found = list(rows().filter(name__gt=after).order_by("name")[: limit + 1])
    following = encode_cursor(found[limit - 1].name) if len(found) > limit else None
    return PeriodicTasks(_described(actor, found[:limit]), following)


def show(actor: Actor, name: str) -> PeriodicTask:
    """One periodic task."""
    return _described(actor, [_get(name)])[0]


def run(actor: Actor, name: str) -> PeriodicRun:
    """Sends its task once, now. Its ticks go on as before."""
    row = _get(name)
    if lookup(row.task) is None:
        raise not_found(f"No task {row.task!r} is registered in this process.", "unknown_task")
    id = actions.run_now(row, patience=0).id
    log(actor, "run", _target(row), f"Sent as {id}.")
    return PeriodicRun(row.name, uuid.UUID(id))


def enable(actor: Actor, name: str) -> PeriodicEnabled:
    """Its ticks are sent from now on. Those that came before are not made up for."""
    return _set(actor, name, enabled=True)


def disable(actor: Actor, name: str) -> PeriodicEnabled:
    """None of its ticks is sent any more, whatever is deployed."""
    return _set(actor, name, enabled=False)


def _set(actor: Actor, name: str, *, enabled: bool) -> PeriodicEnabled:
    row = _get(name)
    changed = actions.set_enabled(row, enabled)
    action, message = ("enable", "Enabled.") if enabled else ("disable", "Disabled.")
    log(actor, action, _target(row), message, count=changed)
    return PeriodicEnabled(row.name, enabled, changed)


def _get(name: str) -> Row:
    row = rows().filter(name=name).first()
    if row is None:
        raise not_found(f"There is no periodic task {name!r}.", "unknown_periodic_task")
    return row


def _target(row: Row) -> Target:
    return Target(Row, row.pk, row.name, row.name)


def _described(actor: Actor, found: list[Row]) -> list[PeriodicTask]:
    now = dt.datetime.fromtimestamp(get_broker().time(), dt.UTC)  # raises where Redis, which has the counts, is away
    may = actor.may("view_arguments")
    return [_one(status, may=may) for status in statuses(now, found)]


def _one(status: Status, *, may: bool) -> PeriodicTask:
    row, note = status.row, status.note
    described = PeriodicTask(
        name=row.name, task=row.task, cron=row.cron,
        every=None if row.every is None else row.every.total_seconds(),
        timezone=row.timezone, words=schedule_in_words(row), jitter=row.jitter,
        catch_up=msgspec.convert(row.catch_up, Literal["once", "skip"]), overlap=row.overlap, enabled=row.enabled,
        declared=bool(row.declared), changed=row.changed, removed_at=utc(row.removed_at), next_at=utc(status.next),
        late_since=utc(status.late), last_tick_at=utc(row.last_tick), last_task=row.last_task,
        sent=note.fired, late=note.late, missed=note.missed, overlapped=note.overlapped, problem=status.problem,
        args=UNSET, kwargs=UNSET,
    )  # fmt: skip
    if may:
        described.args, described.kwargs = (as_json(text) for text in shown(row, may=True))
    return described
