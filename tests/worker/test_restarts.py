"""Processes that cannot start are started ever more slowly, each kind by itself."""

from __future__ import annotations

import time

import pytest

from django_taskq.worker import restarts
from django_taskq.worker.restarts import Restarts


def die(restarts: Restarts, *, after: float = 0.0) -> None:
    restarts.died(time.monotonic() - after)


def test_each_round_of_early_deaths_waits_longer(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Restarts("task")
    die(tasks)
    assert tasks.may_start()
    for _ in range(9):
        die(tasks)
    delays = [line.rpartition(" in ")[2] for line in caplog.text.splitlines()]
    assert delays == [f"{seconds:.1f} s" for seconds in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)]
    assert not tasks.may_start()


def test_those_that_die_together_are_one_round(caplog: pytest.LogCaptureFixture) -> None:
    tasks, started = Restarts("task"), time.monotonic() - 1
    for _ in range(8):
        tasks.died(started)
    assert (tasks.may_start(), caplog.text) == (True, "")


def test_one_that_has_lived_begins_anew() -> None:
    tasks = Restarts("task")
    die(tasks)
    die(tasks, after=restarts.YOUNG)
    die(tasks)
    assert tasks.may_start()
