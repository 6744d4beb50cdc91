"""What code declares, in the form of rows."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

import msgspec
from django.conf import settings

from django_taskq.core.sealing import is_sealed_json
from django_taskq.exceptions import InvalidArguments, Undecryptable
from django_taskq.periodic import arguments
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import all_tasks
from django_taskq.schedules import Schedule
from django_taskq.task import Task

_encode = msgspec.json.Encoder(order="sorted").encode


class Declaration(NamedTuple):
    """One schedule of one task as fields of a row, and the same as text that changes when they do.

    Plain, to be compared; as it is `stored` the arguments of a task that `encrypts` are sealed, each time differently.
    """

    name: str
    values: dict[str, Any]
    text: str
    encrypts: bool

    def stored(self) -> Declaration:
        """Itself as a row has it. Raises KeyMissing."""
        if not self.encrypts:
            return self
        text = sealed_text(self.name, self.text)
        return self._replace(values=values_of(text), text=text)


def declarations() -> tuple[dict[str, Declaration], list[str]]:
    """By name, of every task this process knows; and what is wrong with those that cannot be used."""
    found, problems = {}, []
    for task in all_tasks():
        for schedule in task.schedules:
            try:
                found[schedule.name] = _declaration(task, schedule)
            except InvalidArguments as error:
                why = "" if task.encrypt else f": {error}"
                problems.append(f"{schedule.name}: the arguments of its schedule do not fit{why}")
    return found, problems


def values_of(text: str) -> dict[str, Any]:
    """The fields that a declaration's text stands for."""
    values: dict[str, Any] = msgspec.json.decode(text)
    every = values["every"]
    return {**values, "every": None if every is None else dt.timedelta(milliseconds=every)}


def opened_text(row: PeriodicTask) -> str:
    """What a row follows, with plain arguments; '' where it follows nothing. Raises KeyMissing, Undecryptable."""
    if not is_sealed_declaration(row):
        return row.declared
    values = values_of(row.declared)
    if missing := {"task", "args", "kwargs"} - values.keys():
        raise Undecryptable(f"Periodic task {row.name}: what it follows has no {', '.join(sorted(missing))}.")
    args, kwargs = arguments.opened(row.name, values["task"], values["args"], values["kwargs"])
    return _text({**values, "args": args, "kwargs": kwargs})


def sealed_text(name: str, text: str) -> str:
    """The inverse, of what the periodic task of that name follows. Raises KeyMissing."""
    values = values_of(text)
    args, kwargs = arguments.sealed(name, values["task"], values["args"], values["kwargs"])
    return _text({**values, "args": args, "kwargs": kwargs})


def is_sealed_declaration(row: PeriodicTask) -> bool:
    """Whether a row follows something whose arguments are sealed. What cannot be read at all is not."""
    try:
        return is_sealed_json(values_of(row.declared)["args"])
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return False


def _declaration(task: Task[..., Any], schedule: Schedule) -> Declaration:
    args, kwargs = task.codec.encode(schedule.args, schedule.kwargs)
    zone = "UTC" if schedule.every is not None else schedule.timezone or settings.TIME_ZONE
    values = {
        "task": task.name,
        "cron": schedule.cron,
        "every": schedule.every,
        "timezone": zone,
        "args": args.decode(),
        "kwargs": kwargs.decode(),
        "jitter": schedule.jitter,
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
    }
    return Declaration(schedule.name, values, _text(values), task.encrypt)


def _text(values: dict[str, Any]) -> str:
    every = values["every"]
    return _encode({**values, "every": None if every is None else every // dt.timedelta(milliseconds=1)}).decode()
