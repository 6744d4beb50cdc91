"""The writer on this run's database: SQLite, or PostgreSQL in `make test-services`."""

from __future__ import annotations

import datetime as dt
import gc
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, models

from django_taskq.bulk import DatabaseAway, Writer
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import NOW, entries, failed, succeeded
from tests.servers import wait_for

pytestmark = pytest.mark.django_db


def write(*outcomes: Outcome, at: float = NOW) -> None:
    Writer().write(entries(*outcomes, at=at))


def result(outcome: Outcome) -> TaskResult:
    return TaskResult.objects.get(pk=uuid.UUID(bytes=outcome.id))


def everything() -> list[dict[str, Any]]:
    return [*TaskResult.objects.order_by("pk").values(), *DeadTask.objects.order_by("pk").values()]


def test_a_success_becomes_a_row_with_all_that_is_known() -> None:
    outcome = succeeded(priority=10, losses=1)
    write(outcome)
    row = result(outcome)
    at = dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert (row.task, row.queue, row.priority, row.status, row.run) == ("shop.send", "default", 10, "succeeded", 1)
    assert (json.loads(row.args), json.loads(row.kwargs), row.result) == ([7], {"template": "hi"}, '"sent"')
    assert (row.attempts, row.losses, row.worker, row.wait, row.duration) == (1, 1, "host:1:abcd", 0.5, 1.5)
    assert (row.enqueued_at, row.finished_at) == (at, at + dt.timedelta(seconds=2))
    assert row.started_at == row.first_started_at == at + dt.timedelta(seconds=0.5)
    assert not DeadTask.objects.exists()


def test_a_failure_becomes_a_result_and_a_dead_letter() -> None:
    outcome = failed()
    write(outcome)
    row, dead = result(outcome), DeadTask.objects.get()
    assert row.status == "failed"
    assert (dead.task_id, dead.run, dead.state, dead.reason) == (row.pk, 1, "dead", "failed")
    assert dead.error_class == row.error_class == "smtplib.SMTPServerDisconnected"
    assert bytes(dead.raw) == outcome.raw
    assert [attempt["how"] for attempt in dead.attempts_history] == ["retry"]
    assert len(dead.fingerprint) == 16


def test_a_batch_recorded_twice_changes_nothing() -> None:
    batch = [succeeded(), failed(), failed(run=2), succeeded(run=3), succeeded(recorded=False, run=2)]
    write(*batch)
    before = everything()
    write(*batch)
    assert everything() == before


def test_within_a_run_the_first_recorded_outcome_stays() -> None:
    first = failed()
    second = succeeded(id=first.id)
    write(first)
    write(second)
    write(second, second)
    assert result(first).status == "failed"


def test_a_later_run_replaces_the_row_and_an_earlier_one_does_not() -> None:
    first = failed()
    second = succeeded(id=first.id, run=2, result=b"2")
    write(first)
    write(second)
    write(first)
    row = result(first)
    assert (row.status, row.run, row.result, row.error_message) == ("succeeded", 2, "2", "")


def test_two_runs_in_one_batch_leave_the_later_one() -> None:
    first = failed()
    write(first, succeeded(id=first.id, run=2))
    assert (result(first).status, result(first).run) == ("succeeded", 2)


def test_a_later_run_settles_the_dead_letters_before_it() -> None:
    first = failed()
    write(first)
    DeadTask.objects.create(task_id=uuid.uuid4(), run=1, failed_at=result(first).finished_at, fingerprint="x")
    write(failed(id=first.id, run=2))
    states = DeadTask.objects.filter(task_id=result(first).pk).order_by("run").values_list("run", "state")
    assert list(states) == [(1, "requeued"), (2, "dead")]
    assert DeadTask.objects.filter(state="dead").count() == 2


def test_a_later_run_proves_that_a_dead_letter_was_requeued_though_somebody_discarded_it_meanwhile() -> None:
    first = failed()
    write(first)
    DeadTask.objects.update(state="discarded")
    write(succeeded(id=first.id, run=2))
    assert DeadTask.objects.get().state == "requeued"


def test_an_outcome_that_asks_for_no_row_gets_none() -> None:
    write(succeeded(recorded=False))
    assert everything() == []


def test_an_unrecorded_success_after_a_recorded_failure_updates_its_row() -> None:
    first = failed()
    write(first)
    write(Outcome(first.id, 2, "succeeded", recorded=False, result=b"1"), at=NOW + 60)
    row = result(first)
    assert (row.status, row.run, row.result, row.error_class, row.traceback) == ("succeeded", 2, "1", "", "")
    assert row.finished_at == dt.datetime.fromtimestamp(NOW + 60, dt.UTC)
    assert DeadTask.objects.get().state == "requeued"


def test_a_cancelled_task_that_never_started_has_no_wait() -> None:
    outcome = succeeded(
        status="cancelled", started=None, first_started=None, wait=None, attempts=0, result=None, reason="cancelled"
    )
    write(outcome)
    row = result(outcome)
    assert (row.wait, row.duration, row.started_at, row.result, row.reason) == (None, None, None, None, "cancelled")


def test_secrets_are_redacted_in_the_texts_and_kept_in_the_raw_message() -> None:
    outcome = failed(kwargs=b'{"password":"hunter2"}', raw=b"hunter2")
    write(outcome)
    assert "hunter2" not in result(outcome).kwargs
    dead = DeadTask.objects.get()
    assert "hunter2" not in dead.kwargs
    assert bytes(dead.raw) == b"hunter2"


HOSTILE = {
    "a NUL": {"error_message": "a\x00b", "traceback": "\x00", "result_error": "\x00", "worker": "w\x00"},
    "a NUL in the arguments": {"kwargs": b'{"a":"\x00"}'},
    "an escaped NUL": {"kwargs": b'{"a":"\\u0000"}', "result": b'"\\u0000"'},
    "a lone surrogate": {"error_message": "\ud800", "task": "shop.\udfff"},
    "bytes that are no UTF-8": {"args": b'["\xff\xfe"]', "result": b"\xc3"},
    "names that are too long": {"task": "t" * 400, "queue": "q" * 400, "error_class": "e" * 400, "reason": "r" * 4000},
    "a number no column holds": {"attempts": 2**70, "priority": 10**9, "losses": -1},
    "a run no column holds": {"run": 2**40},
    "times that are none": {"started": float("nan"), "enqueued": float("inf"), "finished": -1e18},
    "a status of a later version": {"status": "evaporated" * 4},
}


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("make", [succeeded, failed])
def test_what_a_database_refuses_is_recorded_all_the_same(make: Any, values: dict[str, Any]) -> None:
    good = [succeeded() for _ in range(6)]
    bad = make(**values)
    batch = [*good[:4], bad, *good[4:]]
    write(*batch)
    write(*batch)
    assert TaskResult.objects.count() == 7
    assert len(result(bad).task) <= 255
    if bad.status == "failed":
        assert bytes(DeadTask.objects.get().raw) == bad.raw


def test_the_culprit_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "django_taskq"):
        write(*[succeeded() for _ in range(9)], succeeded(attempts=2**70))
    [record] = caplog.records
    assert "shop.send" in record.message
    assert "reduced" in record.message


def test_a_missing_table_is_not_blamed_on_the_outcomes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_taskq_taskresult RENAME TO gone")
        try:
            with pytest.raises(DatabaseAway, match="django_taskq_taskresult"):
                write(*[succeeded() for _ in range(8)])
        finally:
            cursor.execute("ALTER TABLE gone RENAME TO django_taskq_taskresult")


def test_a_row_that_breaks_a_constraint_is_not_passed_over() -> None:
    """As INSERT OR IGNORE would: a check or a missing value loses the row without a word."""
    write(succeeded(losses=-1))
    assert TaskResult.objects.count() == 1


@pytest.fixture
def locked_table() -> Iterator[None]:
    """Another connection holds the lock that writing needs; ours waits for it only briefly."""
    other = connection.copy()
    briefly, lock, unlock = {
        "sqlite": ("PRAGMA busy_timeout = 50", "BEGIN IMMEDIATE", "ROLLBACK"),
        "postgresql": ("SET lock_timeout = 50", "BEGIN; LOCK TABLE django_taskq_taskresult", "ROLLBACK"),
        "mysql": ("SET lock_wait_timeout = 1", "LOCK TABLES django_taskq_taskresult WRITE", "UNLOCK TABLES"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(briefly)
    with other.cursor() as cursor:
        cursor.execute(lock)
        yield
        cursor.execute(unlock)
    other.close()
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_away(locked_table: None) -> None:
    with pytest.raises(DatabaseAway, match="OperationalError"):
        write(succeeded())


@pytest.mark.django_db(transaction=True)
def test_two_writers_of_the_same_batch_leave_one_row_each() -> None:
    batch = entries(*[failed() for _ in range(50)], *[succeeded(run=2) for _ in range(50)])
    errors: list[BaseException] = []

    def work() -> None:
        try:
            Writer().write(batch)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert (TaskResult.objects.count(), DeadTask.objects.count()) == (100, 50)


def test_the_rows_are_what_django_reads() -> None:
    """Every value survives full_clean: what the fast path writes is what the fields would have."""
    write(succeeded(), failed())
    for model in (TaskResult, DeadTask):
        for row in model.objects.all():
            row.clean_fields(exclude=["raw"])
            assert all(isinstance(field, models.Field) for field in row._meta.concrete_fields)


def without_a_write_ahead_log() -> bool:
    """False while anybody else has the file open: something of an earlier test that is just ending."""
    gc.collect()
    try:
        with connection.cursor() as cursor:
            return cursor.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    except OperationalError:
        return False


@pytest.mark.django_db(transaction=True)
def test_without_a_write_ahead_log_sqlite_is_advised(caplog: pytest.LogCaptureFixture) -> None:
    sqlite = connection.vendor == "sqlite"
    if sqlite:
        wait_for(without_a_write_ahead_log)
    writer = Writer()
    writer.write(entries(succeeded()))
    assert caplog.text.count("journal_mode = WAL") == sqlite
    connection.close()
