"""Claimer, distributor, pools and settler together, in this process and on a real Redis."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_taskq import Retry
from django_taskq.broker import Broker
from django_taskq.broker.delivery import Delivery, Settlement, release
from django_taskq.signals import task_failed
from django_taskq.worker import claimer, distributor
from django_taskq.worker.held import Held
from django_taskq.worker.loop import LoopPool
from django_taskq.worker.notes import Notes
from django_taskq.worker.pools import ThreadPool
from tests.servers import RedisServer, wait_for
from tests.worker import limited, tasks
from tests.worker.conftest import Ledger, outcomes
from tests.worker.inside import Crew, Desk, delivery_of, kind_of, new_executor, outcome_in


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    tasks.ran.clear()
    tasks.at_once.clear()


def succeeded(delivery: Delivery) -> Settlement:
    executor = new_executor()
    return executor.concluded(executor.prepare(delivery), None, None)  # type: ignore[arg-type]


def empty(broker: Broker) -> bool:
    return not broker.connections.execute("EXISTS", broker.keys.lane("default", 0))


def test_comparing_all_the_time_runs_nothing_twice(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, being settled, just settled, released and claimed again: none of it is an orphan."""
    monkeypatch.setattr(claimer, "COMPARE_EVERY", 0.0005)
    monkeypatch.setattr(distributor, "MOST_WAIT", 0.004)
    with contextlib.ExitStack() as crews:
        both = [crews.enter_context(Crew(broker)) for _ in range(2)]
        number = 0
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            calls = [((number + more, random.choice([0, 0, 0, 0.002])), {}) for more in range(100)]
            number += 100
            random.choice([tasks.notes_number, tasks.notes_number_async]).delay_many(calls)
            wait_for(lambda number=number: len(tasks.ran) > number - 150, 20)
        wait_for(lambda: empty(broker), 20)
    assert sorted(tasks.ran) == list(range(number))
    ids = [outcome.id for outcome in outcomes()]
    assert len(ids) == len(set(ids))
    assert all(not crew.held for crew in both)


def test_orphans_are_run_once(broker: Broker) -> None:
    """What was claimed in this worker's name by a reply that never came."""
    crew = Crew(broker)
    crew.register.register(crew.worker, {})
    tasks.notes_number.delay_many([((number,), {}) for number in range(20)])
    connection = broker.connections.open()
    crew.claimer._deliveries.claim(connection, 20, 0.0, lease_ms=0, awake=True)
    for _ in range(5):
        crew.claimer._compare(connection)
    wait_for(lambda: empty(broker))
    crew.claimer._compare(connection)
    connection.disconnect()
    wait_for(lambda: not crew.held)  # Redis knows before this process has its answer
    assert sorted(tasks.ran) == list(range(20))
    crew.end()


def test_orphans_of_a_limited_task_are_for_a_claim_to_judge(broker: Broker, ledger: Ledger) -> None:
    """The reply that never came said of all but one that they are to be discarded."""
    crew = Crew(broker)
    crew.register.register(crew.worker, {})
    limited.one_or_none.delay_many([((ledger.path, number), {}) for number in range(4)])
    connection = broker.connections.open()
    crew.claimer._deliveries.claim(connection, 20, 0.0, lease_ms=0, awake=True)
    crew.claimer._compare(connection)
    wait_for(lambda: not crew.held)
    connection.disconnect()
    crew.claimer.start()
    ended = wait_for(lambda: len(outcomes()) == 4 and outcomes())
    assert sorted(outcome.status for outcome in ended) == ["discarded"] * 3 + ["succeeded"]
    assert [line["number"] for line in ledger.read()] == [0]
    crew.end()


def test_no_more_coroutines_run_at_once_than_asked_for(broker: Broker) -> None:
    with Crew(broker, coroutines=7):
        tasks.notes_number_async.delay_many([((number, 0.003), {}) for number in range(500)])
        wait_for(lambda: len(tasks.ran) == 500 and empty(broker), 20)
    assert max(tasks.at_once) == 7


def test_what_is_put_on_the_loop_starts_whatever_the_loop_is_doing() -> None:
    desk = Desk()
    pool = LoopPool(50, new_executor(), Notes(50), 0, desk.put, threading.Event())
    for number in range(3_000):
        pool.put(delivery_of(tasks.notes_number_async, number))
        if number % 3 == 0:
            time.sleep(0)
        if number % 500 == 0:
            desk.wait(number)
    assert {kind_of(settlement) for settlement in desk.wait(3_000)} == {"succeeded"}
    assert sorted(tasks.ran) == list(range(3_000))
    wait_for(lambda: (pool.busy, pool.waiting()) == (0, 0))


def test_a_coroutine_whose_task_is_taken_away_as_it_ends_leaves_its_place_free() -> None:
    desk = Desk()
    pool = LoopPool(1, new_executor(), Notes(1), 0, desk.put, threading.Event())
    pool.put(delivery_of(tasks.notes_number_async, 1, 0.2))
    wait_for(lambda: bool(pool.running()))
    [(run, work)] = pool.running()
    desk.wait(1)
    wait_for(lambda: not pool.busy)
    run.work = work  # as the thread that looks after time limits had seen it a moment before
    assert run.abandon(work)
    assert pool.busy == 0
    pool.put(delivery_of(tasks.notes_number_async, 2))
    desk.wait(2)


def test_a_fault_while_claiming_is_said_and_claiming_goes_on(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Crew(broker) as crew:
        deliveries, calls = crew.claimer._deliveries, 0
        real = deliveries.claim

        def claim(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise ValueError("a fault of its own")
            return real(*arguments, **options)

        monkeypatch.setattr(deliveries, "claim", claim)
        tasks.notes_number.delay(1)
        wait_for(lambda: tasks.ran == [1])
    assert caplog.text.count("claiming failed, trying again") >= 1


class TestSettler:
    @pytest.fixture
    def crew(self, broker: Broker) -> Iterator[Crew]:
        """Registered, and claiming nothing by itself."""
        crew = Crew(broker)
        crew.register.register(crew.worker, {})
        yield crew
        crew.end(0.5)

    def claim(self, crew: Crew, count: int, most: int | None = None) -> list[Delivery]:
        tasks.notes_number.delay_many([((number,), {}) for number in range(count)])
        connection = crew.broker.connections.open()
        found = crew.claimer._deliveries.claim(connection, most or count, 0.0, lease_ms=0, awake=True)
        connection.disconnect()
        for delivery in found.deliveries:
            crew.held.add(delivery)
        return list(found.deliveries)

    def test_a_settlement_that_cannot_be_sent_is_buried_and_the_others_stand(self, crew: Crew) -> None:
        deliveries = self.claim(crew, 40)
        for number, delivery in enumerate(deliveries):
            settlement = succeeded(delivery)
            if number == 17:
                settlement = settlement._replace(arguments=(*settlement.arguments[:2], object(), "", "0"))
            crew.settler.put(settlement)
        wait_for(lambda: not crew.held)
        statuses = {outcome.id: (outcome.status, outcome.reason) for outcome in outcomes()}
        assert len(statuses) == 40
        assert statuses.pop(deliveries[17].fields[1]) == ("failed", "refused")
        assert set(statuses.values()) == {("succeeded", "")}

    def test_a_retry_that_cannot_be_sent_frees_its_key_and_is_told(self, crew: Crew) -> None:
        told: list[Any] = []

        def note(sender: Any, **values: Any) -> None:
            told.append((sender, values["task_id"], values["reason"]))

        handle = tasks.notes_number.using(idempotency_key="k").delay(0)
        (delivery,) = self.claim(crew, 0, most=1)
        executor = new_executor()
        settlement = executor.failed(executor.prepare(delivery), Retry(delay=60))  # type: ignore[arg-type]
        task_failed.connect(note)
        try:
            crew.settler.put(settlement._replace(arguments=(*settlement.arguments[:-1], object())))
            wait_for(lambda: not crew.held)
            wait_for(lambda: told)
        finally:
            task_failed.disconnect(note)
        assert told == [(tasks.notes_number, handle.id, "refused")]
        again = tasks.notes_number.using(idempotency_key="k").delay(0)
        assert (again.created, again.id == handle.id) == (True, False)

    def test_a_callback_that_fails_or_exits_does_not_end_the_thread(self, crew: Crew) -> None:
        for error, delivery in zip((ValueError, SystemExit, None), self.claim(crew, 3), strict=True):

            def tell(error: Any = error) -> None:
                if error:
                    raise error

            settlement = succeeded(delivery)
            crew.settler.put(settlement._replace(then=tell))
            wait_for(lambda delivery=delivery: delivery.location not in crew.held)
        assert crew.settler.settled == 3

    def test_what_is_released_does_not_count_as_run(self, crew: Crew) -> None:
        for delivery in self.claim(crew, 3):
            crew.settler.put(release(delivery))
        wait_for(lambda: not crew.held)
        assert crew.settler.settled == 0

    def test_it_keeps_what_it_could_not_send_until_redis_is_back(self, crew: Crew, redis_server: RedisServer) -> None:
        deliveries = self.claim(crew, 30)
        redis_server.stop()
        for delivery in deliveries:
            crew.settler.put(succeeded(delivery))
        time.sleep(0.3)
        assert len(crew.held) == 30
        redis_server.start()
        wait_for(lambda: not crew.held)
        assert len(outcomes()) == 30

    def test_stopping_without_redis_gives_up_when_its_patience_is_over(
        self, crew: Crew, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        (delivery,) = self.claim(crew, 1)
        redis_server.stop()
        crew.settler.put(succeeded(delivery))
        began = time.monotonic()
        crew.settler.stop(0.5)
        assert 0.4 < time.monotonic() - began < 2
        assert not crew.settler.thread.is_alive()
        assert "1 tasks are not settled and will run again" in caplog.text

    @pytest.mark.slow
    def test_stopping_does_not_wait_for_a_long_pause(self, crew: Crew, redis_server: RedisServer) -> None:
        (delivery,) = self.claim(crew, 1)
        redis_server.stop()
        crew.settler.put(succeeded(delivery))
        time.sleep(1.7)  # now it pauses for more than a second
        began = time.monotonic()
        crew.settler.stop(0.0)
        assert time.monotonic() - began < 0.6


@pytest.mark.parametrize("task", [tasks.notes_number, tasks.notes_number_async])
def test_a_fault_of_the_worker_itself_settles_the_task_and_the_next_one_runs(
    task: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk, executor = Desk(), new_executor()
    room, notes = threading.Event(), Notes(4)
    pool: ThreadPool | LoopPool
    if task.is_async:
        pool = LoopPool(1, executor, notes, 0, desk.put, room)
    else:
        pool = ThreadPool(1, executor, notes, desk.put, room)
    concluded = executor.concluded

    def fail(*_: Any) -> Any:
        monkeypatch.setattr(executor, "concluded", concluded)
        raise SystemExit("a fault of its own")

    monkeypatch.setattr(executor, "concluded", fail)
    pool.put(delivery_of(task, 1))
    desk.wait(1)
    pool.put(delivery_of(task, 2))
    broken, fine = desk.wait(2)
    assert (kind_of(broken), outcome_in(broken).reason) == ("failed", "malformed")
    assert kind_of(fine) == "succeeded"
    assert "a fault of the worker itself" in caplog.text
    assert notes.read() == []


def test_a_released_entry_that_came_back_is_another_delivery() -> None:
    held, before = Held(), delivery_of(tasks.notes_number, 1)
    after = Delivery(before.lane, before.entry, before.fields, 0, False, 0.0)
    held.add(before)
    held.add(after)
    held.remove(before)
    assert held.get(before.location) is after
    held.remove(after)
    assert (len(held), before.location in held) == (0, False)
