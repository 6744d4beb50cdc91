"""taskq_periodic, and periodic tasks in taskq_status."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError

from django_taskq import get_task
from django_taskq.broker import Broker
from django_taskq.periodic_task import PeriodicTask
from tests.commands.conftest import run

pytestmark = pytest.mark.django_db
ADD = "tests.sampleapp.tasks.add"


@pytest.fixture
def made(broker: Broker) -> PeriodicTask:
    now = dt.datetime.fromtimestamp(broker.time(), dt.UTC)
    common: dict[str, Any] = {"task": ADD, "args": "[1, 2]", "since": now}
    PeriodicTask.objects.create(name="b off", every=dt.timedelta(hours=2), enabled=False, **common)
    PeriodicTask.objects.create(name="c gone", cron="0 0 * * *", removed_at=now, **common)
    PeriodicTask.objects.create(name="d broken", cron="0 0 31 2 *", **common)
    PeriodicTask.objects.create(name="e late", cron="* * * * *", **common | {"since": now - dt.timedelta(hours=1)})
    return PeriodicTask.objects.create(name="a", cron="30 6 * * *", timezone="Europe/Berlin", changed=True, **common)


def test_the_list_says_when_and_what_is_wrong(made: PeriodicTask) -> None:
    head, a, off, gone, broken, late = run("taskq_periodic", "list").out.splitlines()
    assert head.split() == ["PERIODIC", "SCHEDULE", "NEXT", "LAST", "FIRED", "LATE", "MISSED"]
    assert "At 06:30 every day (Europe/Berlin)" in a
    assert a.endswith("changed here")
    assert "Every 2 hours" in off
    assert off.endswith("disabled")
    assert gone.endswith("removed from the code")
    assert "is not a cron expression" in broken or "never comes" in broken
    assert late.endswith("late: no worker fires it")


def test_the_list_for_programs(made: PeriodicTask) -> None:
    listed = {each["name"]: each for each in run("taskq_periodic", "list", "--json").json}
    assert (listed["a"]["cron"], listed["a"]["changed"], listed["b off"]["every"]) == ("30 6 * * *", True, 7200.0)
    assert listed["a"]["next"] % 60 == 0
    assert (listed["b off"]["next"], listed["b off"]["enabled"]) == (None, False)
    assert listed["e late"]["late_since"] is not None


def test_without_any_it_says_how_to_make_one(broker: Broker) -> None:
    assert "Declare one with @task(cron=...)" in run("taskq_periodic", "list").out
    assert run("taskq_periodic", "list", "--json").json == []


def test_enable_and_disable(made: PeriodicTask) -> None:
    assert [each["name"] for each in run("taskq_periodic", "list", "b off", "--json").json] == ["b off"]
    assert run("taskq_periodic", "disable", "a", "b off").out.splitlines() == ["a: disabled", "b off: was disabled"]
    before = made.since
    assert run("taskq_periodic", "enable", "a").out == "a: enabled\n"
    made.refresh_from_db()
    assert made.enabled
    assert made.since >= before
    assert "but it was removed from the code" in run("taskq_periodic", "enable", "c gone").out


def test_run_sends_its_task_and_leaves_its_ticks_alone(made: PeriodicTask) -> None:
    out = run("taskq_periodic", "run", "a").out
    handle = get_task(out.removeprefix("a: sent as ").strip())
    assert handle.status == "queued"
    made.refresh_from_db()
    assert (made.last_tick, made.last_task) == (None, None)


def test_a_name_that_there_is_not_stops_all_of_it(made: PeriodicTask) -> None:
    with pytest.raises(CommandError, match="There is no periodic task 'x'"):
        run("taskq_periodic", "disable", "a", "x")
    with pytest.raises(CommandError, match="There is no periodic task 'x'"):
        run("taskq_periodic", "list", "x")
    made.refresh_from_db()
    assert made.enabled
    with pytest.raises(CommandError, match="Which"):
        run("taskq_periodic", "run")
    PeriodicTask.objects.filter(name="a").update(task="gone")
    with pytest.raises(CommandError, match="does not know the task 'gone'"):
        run("taskq_periodic", "run", "a")


def test_the_status_shows_them(made: PeriodicTask) -> None:
    assert "At 06:30 every day (Europe/Berlin)" in run("taskq_status").out
    assert next(each["name"] for each in run("taskq_status", "--json").json["periodic"]) == "a"


def test_the_status_does_without_the_database(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("django_taskq.periodic.status.rows", away)
    assert run("taskq_status", "--json").json["periodic"] is None
    assert "QUEUE" in run("taskq_status").out
