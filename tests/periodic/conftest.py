"""`code` is what this process' code declares, as a test changes it; `clock` is a time that a test sets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from django_taskq import Task, registry
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import register

NOON = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)


def report(day: str = "today", *, copies: int = 1) -> str:
    return f"{day} x {copies}"


class Code:
    """One version of the code: the tasks it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.clear()

    def clear(self) -> None:
        self._monkeypatch.setattr(registry, "_tasks", {})

    def declare(self, name: str = "report", **options: Any) -> Task[..., Any]:
        """A task with these options instead of the one of that name."""
        made: Task[..., Any] = Task(report, name=name, **options)
        register(made)
        return made


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch, taskq_settings: object) -> Code:
    return Code(monkeypatch)


@pytest.fixture
def row(db: None) -> Callable[..., PeriodicTask]:
    """The row of a name, as it is now."""
    return lambda name="report": PeriodicTask.objects.get(name=name)
