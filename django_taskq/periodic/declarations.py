"""What code declares, in the form of rows."""

from __future__ import annotations

import datetime as dt
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from django.conf import settings

from django_taskq.exceptions import InvalidArguments
from django_taskq.registry import all_tasks
from django_taskq.schedules import Schedule
from django_taskq.task import Task

_encode = msgspec.json.Encoder(order="sorted").encode


class Declaration(NamedTuple):
    """One schedule of one task as fields of a row, and the same as text that changes when they do."""

    name: str
    values: dict[str, Any]
    text: str


def declarations() -> tuple[dict[str, Declaration], list[str]]:
    """By name, of every task this process knows; and what is wrong with those that cannot be used."""
    found, problems = {}, []
    for task in all_tasks():
        for schedule in task.schedules:
            try:
                found[schedule.name] = _declaration(task, schedule)
            except InvalidArguments as error:
                problems.append(f"{schedule.name}: the arguments of its schedule do not fit: {error}")
    return found, problems


def values_of(text: str) -> dict[str, Any]:
    """The fields that a declaration's text stands for."""
    values: dict[str, Any] = msgspec.json.decode(text)
    every = values["every"]
    return {**values, "every": None if every is None else dt.timedelta(milliseconds=every)}


def digest(text: str) -> str:
    """A declaration's short name."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


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
    every = None if schedule.every is None else schedule.every // dt.timedelta(milliseconds=1)
    return Declaration(schedule.name, values, _encode({**values, "every": every}).decode())
