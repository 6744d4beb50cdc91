"""Rows follow the code, whichever processes of whichever version say so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from django_taskq import Cron, Every
from django_taskq.periodic.sync import CONFIRM, STALE, synchronise
from django_taskq.periodic_task import PeriodicTask
from tests.periodic.conftest import NOON, Code

Row = Callable[..., PeriodicTask]
SECOND = dt.timedelta(seconds=1)
AGES = STALE + SECOND


def test_what_code_declares_becomes_rows(code: Code, row: Row) -> None:
    code.declare(cron=Cron("30 6 * * *", timezone="Europe/Berlin", args=("x",), kwargs={"copies": 2}, jitter=5))
    code.declare("other", every=Every(600, catch_up="skip", overlap=False))
    synchronise(NOON)
    found = row()
    assert (found.task, found.cron, found.every, found.timezone) == ("report", "30 6 * * *", None, "Europe/Berlin")
    assert (found.args, found.kwargs, found.jitter, found.catch_up) == ('["x"]', '{"copies":2}', 5.0, "once")
    assert (found.enabled, found.changed, found.since, found.last_tick) == (True, False, NOON, None)
    other = row("other")
    assert (other.cron, other.every, other.catch_up, other.overlap) == ("", dt.timedelta(minutes=10), "skip", False)


def test_cron_is_on_the_clock_of_the_project(code: Code, row: Row, settings: pytest.FixtureRequest) -> None:
    settings.TIME_ZONE = "America/New_York"  # type: ignore[attr-defined]
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    assert row().timezone == "America/New_York"


def test_a_new_declaration_changes_its_row_and_begins_now(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND)
    assert (row().cron, row().since) == ("0 7 * * *", NOON + SECOND)
    code.declare(cron=Cron("0 7 * * *", args=("x",)))
    synchronise(NOON + 2 * SECOND)
    assert (row().args, row().since) == ('["x"]', NOON + SECOND)


def test_saying_the_same_again_changes_nothing_but_when_it_was_said(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    synchronise(NOON + CONFIRM / 2)
    assert row().seen_at == NOON
    synchronise(NOON + CONFIRM)
    assert (row().seen_at, row().since) == (NOON + CONFIRM, NOON)


def test_what_somebody_changed_here_stays(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    PeriodicTask.objects.update(cron="0 9 * * *", changed=True, enabled=False)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND)
    assert (row().cron, row().enabled, row().changed) == ("0 9 * * *", False, True)
    assert '"0 7 * * *"' in row().declared


def test_during_a_deployment_the_newer_declaration_stays(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND)
    code.declare(cron="0 6 * * *")  # an old worker's maintenance process starts again
    synchronise(NOON + 2 * SECOND)
    assert row().cron == "0 7 * * *"


def test_after_a_rollback_the_older_one_has_its_way(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND)
    code.declare(cron="0 6 * * *")
    synchronise(NOON + SECOND + STALE)
    assert row().cron == "0 7 * * *"
    synchronise(NOON + SECOND + AGES)
    assert (row().cron, row().removed_at) == ("0 6 * * *", None)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND + AGES + SECOND)
    assert row().cron == "0 6 * * *"  # now that one is the older


def test_what_code_has_no_more_is_disabled_once_nobody_declares_it(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    code.clear()
    synchronise(NOON + STALE)
    assert row().is_active
    synchronise(NOON + AGES)
    assert (row().is_active, row().enabled, row().removed_at) == (False, True, NOON + AGES)


def test_what_comes_back_goes_on_without_making_up_for_the_time_between(code: Code, row: Row) -> None:
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    code.clear()
    synchronise(NOON + AGES)
    code.declare(cron="0 6 * * *")
    synchronise(NOON + AGES + SECOND)  # another process was a little late
    assert (row().is_active, row().since) == (True, NOON)
    code.clear()
    synchronise(NOON + 3 * AGES)
    code.declare(cron="0 6 * * *")
    synchronise(NOON + 6 * AGES)
    assert (row().is_active, row().since) == (True, NOON + 6 * AGES)


def test_what_was_made_in_the_admin_is_left_alone(code: Code, row: Row) -> None:
    PeriodicTask.objects.create(name="by hand", task="report", cron="0 6 * * *", since=NOON)
    synchronise(NOON + AGES)
    assert row("by hand").is_active


def test_a_row_of_the_same_name_is_taken_over_as_it_is(code: Code, row: Row) -> None:
    PeriodicTask.objects.create(name="report", task="report", cron="0 6 * * *", since=NOON)
    code.declare(cron="0 7 * * *")
    synchronise(NOON + SECOND)
    assert (row().cron, row().changed) == ("0 6 * * *", True)


def test_arguments_that_do_not_fit_do_not_keep_the_others(
    code: Code, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    code.declare(every=Every(60, kwargs={"colour": "red"}))
    code.declare("other", every=60)
    synchronise(NOON)
    assert row("other").is_active
    assert not PeriodicTask.objects.filter(name="report").exists()
    assert "periodic task report: the arguments of its schedule do not fit" in caplog.text


def test_of_many_processes_at_once_one_makes_the_row(code: Code, transactional_db: None) -> None:
    code.declare(cron="0 6 * * *")

    def start(_: int) -> None:
        try:
            synchronise(NOON)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(12)))
    assert PeriodicTask.objects.count() == 1


@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_what_they_are_with_and_without_use_tz(
    code: Code, row: Row, settings: pytest.FixtureRequest, use_tz: bool
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "America/New_York", use_tz  # type: ignore[attr-defined]
    code.declare(cron="0 6 * * *")
    synchronise(NOON)
    synchronise(NOON + CONFIRM)
    assert (row().since, row().seen_at) == (NOON, NOON + CONFIRM)
    assert PeriodicTask.objects.filter(seen_at__gt=NOON).exists()
