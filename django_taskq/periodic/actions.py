"""What people do to periodic tasks: enable, disable, edit, run now, go back to what code says."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from django_taskq import producer
from django_taskq.broker import get_broker
from django_taskq.broker.periodic import Ticks
from django_taskq.exceptions import InvalidTask, TaskqError, Undecryptable
from django_taskq.handle import TaskHandle
from django_taskq.periodic.arguments import call_of, readable
from django_taskq.periodic.declarations import opened_text, values_of
from django_taskq.periodic.sync import rows
from django_taskq.periodic_task import DECLARED_FIELDS, SCHEDULE_FIELDS, PeriodicTask, different, utc_now
from django_taskq.registry import lookup


def set_enabled(row: PeriodicTask, enabled: bool) -> bool:
    """Whether this changed anything. Ticks that came while it was disabled are not made up for."""
    changes: dict[str, Any] = {"enabled": enabled}
    if enabled:
        changes["since"] = redis_now()
    return bool(rows().filter(pk=row.pk, enabled=not enabled).update(**changes))


def edited(row: PeriodicTask, before: PeriodicTask) -> dict[str, Any]:
    """What else changes in a row, not saved yet, whose fields somebody has edited."""
    row, before = readable(row), readable(before)
    changes: dict[str, Any] = {}
    if different(row, values_in(before), SCHEDULE_FIELDS) or (row.enabled and not before.enabled):
        changes["since"] = redis_now()
    if row.declared and different(row, values_in(before)):
        changes["changed"] = _differs_from_code(row)
    return changes


def follow_code(row: PeriodicTask) -> bool:
    """Takes back what was changed here; False where nothing was."""
    if not row.declared:
        return False
    values: dict[str, Any] = values_of(row.declared)
    since = {"since": redis_now()} if different(row, values, SCHEDULE_FIELDS) else {}
    same = rows().filter(pk=row.pk, changed=True, declared=row.declared)
    return bool(same.update(changed=False, **values, **since))


def run_now(row: PeriodicTask, patience: float | None = None) -> TaskHandle[Any]:
    """Sends its task once, at once; its ticks go on as before. Raises what sending raises, InvalidTask if unknown.

    `patience`: seconds to wait for room in a full queue; None: as the queue says.
    """
    task = lookup(row.task)
    if task is None:
        raise InvalidTask(f"Periodic task {row.name}: this process does not know the task {row.task!r}.")
    route = task.route if patience is None else replace(task.route, patience=patience)
    return producer.send(route, *call_of(row, task))


def forget(names: list[str]) -> None:
    """Removes what Redis notes of periodic tasks that were deleted. Raises what Redis raises."""
    ticks = Ticks(get_broker())
    for name in names:
        ticks.forget(name)


def _differs_from_code(row: PeriodicTask) -> bool:
    try:
        return different(row, values_of(opened_text(row)))
    except Undecryptable:  # nobody here can compare them
        return True


def values_in(row: PeriodicTask) -> dict[str, Any]:
    """The fields that a declaration has, as the row has them."""
    return {field: getattr(row, field) for field in DECLARED_FIELDS}


def redis_now() -> dt.datetime:
    """Redis' time, which ticks are judged by; this machine's where Redis is away."""
    try:
        return dt.datetime.fromtimestamp(get_broker().time(), dt.UTC)
    except TaskqError:
        return utc_now()
