"""The recorder between a real Redis and a real database."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.db import connection

from django_taskq import recorder as module
from django_taskq.broker import Broker
from django_taskq.bulk import DatabaseAway
from django_taskq.conf import get_settings
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.models import DeadTask, TaskResult
from django_taskq.recorder import Recorder
from django_taskq.records import find_record
from tests.records.outcomes import failed, settle, succeeded
from tests.servers import RedisServer, wait_for

pytestmark = pytest.mark.django_db


def cursor(broker: Broker) -> str:
    return (broker.connections.execute("HGET", broker.keys.recorder, "cursor") or b"0-0").decode()


def drain(recorder: Recorder) -> int:
    total = 0
    while count := recorder.run_once():
        total += count
    return total


def test_outcomes_become_rows_and_the_cursor_moves(broker: Broker) -> None:
    *_, last = settle(broker, succeeded(), failed(), succeeded(recorded=False))
    assert drain(Recorder(broker)) == 3
    assert (TaskResult.objects.count(), DeadTask.objects.count()) == (2, 1)
    assert cursor(broker) == last
    assert broker.recorder_lag() == 0


def test_more_outcomes_than_a_batch_are_all_recorded_in_order(broker: Broker) -> None:
    first = failed()
    settle(broker, first, *[succeeded() for _ in range(2500)], succeeded(id=first.id, run=2))
    recorder = Recorder(broker)
    assert drain(recorder) == 2502
    assert TaskResult.objects.count() == 2501
    record = find_record(first.id)
    assert record is not None
    assert (record.run, record.status) == (2, "succeeded")
    assert recorder._size == module.BATCH


def test_nothing_to_record_is_nothing_done(broker: Broker) -> None:
    assert Recorder(broker).run_once() == 0


def test_only_the_holder_of_the_lease_records(broker: Broker) -> None:
    first, second = Recorder(broker, "first"), Recorder(broker, "second")
    assert first.run_once() == 0
    settle(broker, succeeded())
    assert second.run_once() == 0
    assert not second.holding
    assert TaskResult.objects.count() == 0
    assert first.run_once() == 1


def test_a_recorder_that_stops_leaves_the_lease_to_the_next(broker: Broker) -> None:
    first, second = Recorder(broker, "first"), Recorder(broker, "second")
    first.run_once()
    first.close()
    wait_for(lambda: second.run_once() == 0 and second.holding, 2)


def test_a_crash_between_the_commit_and_the_cursor_records_the_same_again(broker: Broker) -> None:
    settle(broker, succeeded(), failed())
    recorder = Recorder(broker)
    batch = broker.read_outcomes("0-0", 10)
    recorder._writer.write([(entry, outcome) for entry, outcome in batch if outcome])
    rows = list(TaskResult.objects.values())  # and here it dies
    assert cursor(broker) == "0-0"
    assert drain(Recorder(broker)) == 2
    assert list(TaskResult.objects.values()) == rows
    assert DeadTask.objects.count() == 1


def test_a_recorder_that_lost_its_lease_forgets_what_it_knew(broker: Broker) -> None:
    settle(broker, succeeded())
    slow, quick = Recorder(broker, "slow"), Recorder(broker, "quick")
    write = slow._writer.write

    def interrupted(batch: object) -> None:
        write(batch)  # type: ignore[arg-type]
        broker.recorder_lease("slow", 1)
        wait_for(lambda: quick.run_once() == 1, 2)

    slow._writer.write = interrupted  # type: ignore[method-assign,assignment]
    assert slow.run_once() == 0
    assert not slow.holding
    assert TaskResult.objects.count() == 1


def shorten_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """To nothing, which the settings refuse."""
    monkeypatch.setattr("django_taskq.recorder.get_settings", lambda: replace(get_settings(), outcome_window=0.0))


def test_recorded_outcomes_leave_redis_after_the_window(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(broker, *[succeeded() for _ in range(1200)])
    shorten_window(monkeypatch)
    recorder = Recorder(broker)
    drain(recorder)
    monkeypatch.setattr(recorder, "_trim_at", 0.0)
    recorder.run_once()
    assert broker.connections.execute("XLEN", broker.keys.outcomes) == 0
    assert broker.connections.execute("HLEN", broker.keys.index) == 0


def test_what_is_not_recorded_is_never_trimmed(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_window(monkeypatch)
    recorder = Recorder(broker)
    recorder.run_once()
    outcome = succeeded()
    settle(broker, outcome)
    recorder._trim_at = 0.0
    recorder._trim()
    assert broker.find([outcome.id])[0].state is State.SUCCEEDED


def test_an_outcome_nobody_can_read_becomes_a_dead_letter(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    id = new_id()
    broker.connections.execute("XADD", broker.keys.outcomes, "*", "i", id, "o", b"\xc1 broken")
    broker.connections.execute("XADD", broker.keys.outcomes, "*", "no", "fields of ours")
    settle(broker, succeeded())
    assert drain(Recorder(broker)) == 3
    assert TaskResult.objects.count() == 1
    first, second = DeadTask.objects.order_by("pk")
    assert (first.task_id, first.reason) == (uuid.UUID(bytes=id), "malformed")
    assert b"broken" in bytes(first.raw)
    assert b"fields of ours" in bytes(second.raw)
    assert "cannot be read" in caplog.text


def test_big_payloads_make_small_batches(broker: Broker) -> None:
    recorder = Recorder(broker)
    settle(broker, *[succeeded(result=b'"' + b"x" * 500_000 + b'"') for _ in range(40)])
    assert drain(recorder) == 40
    assert recorder._size < 20


class Running:
    """A recorder in a thread, as the maintenance process runs it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.stop = recorder, threading.Event()
        self.thread = threading.Thread(target=recorder.run, args=(self.stop,))
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def running(broker: Broker, transactional_db: None) -> Iterator[Running]:
    running = Running(Recorder(broker))
    yield running
    running.end()


def test_it_goes_on_after_the_database_was_away(
    broker: Broker, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "django_taskq.recorder")
    with connection.cursor() as sql:
        sql.execute("ALTER TABLE django_taskq_taskresult RENAME TO gone")
        try:
            settle(broker, *[succeeded() for _ in range(30)])
            wait_for(lambda: "trying again" in caplog.text, 5)
        finally:
            sql.execute("ALTER TABLE gone RENAME TO django_taskq_taskresult")
    wait_for(lambda: TaskResult.objects.count() == 30, 15)
    wait_for(lambda: broker.recorder_lag() == 0, 5)
    assert caplog.text.count("trying again") == 1
    assert "recorder: it works again" in caplog.text


def test_it_goes_on_after_redis_was_away(
    broker: Broker, running: Running, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    settle(broker, succeeded())
    wait_for(lambda: TaskResult.objects.count() == 1, 5)
    redis_server.kill()
    wait_for(lambda: "trying again" in caplog.text, 10)
    redis_server.start()
    settle(broker, succeeded())
    wait_for(lambda: TaskResult.objects.count() == 2, 20)
    assert caplog.text.count("trying again") == 1


def test_a_fault_of_its_own_does_not_end_it(
    broker: Broker, running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([RuntimeError("a bug"), BrokerUnavailable(), DatabaseAway("no")])
    read = broker.read_outcomes

    def faulty(cursor: str, count: int) -> object:
        for fault in faults:
            raise fault
        return read(cursor, count)

    monkeypatch.setattr(broker, "read_outcomes", faulty)
    settle(broker, succeeded())
    wait_for(lambda: TaskResult.objects.count() == 1, 15)
    assert "a bug" in caplog.text


def test_at_rest_it_looks_once_a_second() -> None:
    recorder = Recorder.__new__(Recorder)
    recorder.holding, recorder._size = True, 1000
    pause, looks, spent = recorder._pause(1, 0.0), 0, 0.0
    while spent < 60:
        spent, looks, pause = spent + pause, looks + 1, recorder._pause(0, pause)
    assert looks < 75
    assert pause == module.IDLE_PAUSE
    assert recorder._pause(1000, pause) == 0
