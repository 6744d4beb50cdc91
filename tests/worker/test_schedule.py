"""When tasks start, and in which order."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from django_taskq.broker import get_broker
from tests.conftest import StartWorker
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger


@pytest.mark.parametrize("wait", [0.7, timedelta(seconds=0.7)])
def test_a_task_due_in_700_ms_starts_then(wait: float | timedelta, running: WorkerProcess, ledger: Ledger) -> None:
    late = []
    for _ in range(2):
        time.sleep(0.1)
        sent = time.time()
        tasks.works.using(run_after=wait).delay(ledger.path, 0)
        late.append(ledger.wait(len(late) + 1)[-1]["at"] - sent - 0.7)
    assert min(late) > -0.002
    assert min(late) < 0.03, late


def test_a_task_due_at_a_moment_starts_then(running: WorkerProcess, ledger: Ledger) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=0.4)
    tasks.works.using(run_after=moment).delay(ledger.path, 0)
    assert ledger.wait()[0]["at"] - moment.timestamp() == pytest.approx(0.01, abs=0.03)


def test_a_moment_that_has_passed_is_now(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.works.using(run_after=datetime.now(UTC) - timedelta(hours=1)).delay(ledger.path, 0)
    handle.get(timeout=2)


def test_a_sleeping_worker_notices_a_task_that_is_due_sooner(running: WorkerProcess, ledger: Ledger) -> None:
    later = tasks.works.using(run_after=3).delay(ledger.path, 0, "later")
    time.sleep(0.1)  # asleep until `later` is due
    sent = time.time()
    tasks.works.using(run_after=0.3).delay(ledger.path, 0, "sooner")
    assert ledger.wait()[0]["at"] - sent == pytest.approx(0.31, abs=0.03)
    assert later.cancel() is True


def test_many_tasks_due_at_once_all_start(running: WorkerProcess, ledger: Ledger) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=0.5)
    calls = [((ledger.path,), {"seconds": 0, "name": str(number)}) for number in range(700)]
    handles = tasks.works.using(run_after=moment).delay_many(calls)
    handles[-1].get(timeout=5)
    lines = ledger.wait(700)
    assert all(line["at"] >= moment.timestamp() - 0.002 for line in lines)
    assert len({line["name"] for line in lines}) == 700


def test_the_highest_priority_goes_first_and_inside_it_the_first(start: StartWorker, ledger: Ledger) -> None:
    for number in range(5):
        for name, priority in (("low", -5), ("normal", 0), ("high", 5), ("highest", 100)):
            tasks.works.using(priority=priority).delay(ledger.path, 0, f"{name} {number}")
    start("--threads", "1")
    names = [line["name"] for line in ledger.wait(20)]
    assert names == [f"{name} {number}" for name in ("highest", "high", "normal", "low") for number in range(5)]


def fill(ledger: Ledger) -> None:
    for queue in ("default", "mail", "slow"):
        tasks.works.using(queue_name=queue).delay_many([((ledger.path, 0.01, queue), {})] * 10)


def test_queues_named_are_served_in_that_order(start: StartWorker, ledger: Ledger) -> None:
    fill(ledger)
    start("--threads", "1", "--queues", "mail,default")
    assert [line["name"] for line in ledger.wait(20)] == ["mail"] * 10 + ["default"] * 10
    time.sleep(0.1)
    assert len(ledger.events()) == 20
    broker = get_broker()
    assert broker.connections.execute("XLEN", broker.keys.lane("slow", 0)) == 10


def test_without_names_all_queues_are_served_in_turn(start: StartWorker, ledger: Ledger) -> None:
    fill(ledger)
    start("--threads", "1")
    names = [line["name"] for line in ledger.wait(30)]
    for queue in ("default", "mail", "slow"):
        assert names.index(queue) < 15, names
        assert names[15:].count(queue) >= 2, names


@pytest.mark.slow
def test_a_delayed_task_keeps_its_priority(start: StartWorker, ledger: Ledger) -> None:
    blocker = tasks.works.delay(ledger.path, 0.8, "first")
    start("--threads", "1")
    ledger.wait()
    for _ in range(5):
        tasks.works.delay(ledger.path, 0, "waits")
    tasks.works.using(run_after=0.2, priority=10).delay(ledger.path, 0, "urgent")
    blocker.get(timeout=5)
    names = [line["name"] for line in ledger.wait(7)]
    # One that waits may have been claimed for the place that becomes free.
    assert names.index("urgent") <= 2, names


def test_two_sleeping_workers_share_what_comes(start: StartWorker, ledger: Ledger) -> None:
    start("--threads", "1", "--processes", "2")
    time.sleep(0.3)
    tasks.works.delay_many([((ledger.path, 0.4), {})] * 2)
    first, second = ledger.wait(2)
    assert first["pid"] != second["pid"]
    assert second["at"] - first["at"] < 0.2
    wait_for(lambda: len(ledger.events("end")) == 2)


def test_coroutines_start_while_all_threads_are_busy_and_the_other_way_round(
    start: StartWorker, ledger: Ledger
) -> None:
    start("--threads", "2", "--async-concurrency", "2")
    call = (ledger.path, ledger.gate)
    for busy, free in ((tasks.holds, tasks.works_async), (tasks.holds_async, tasks.works)):
        before = len(ledger.events())
        held = busy.delay_many([(call, {})] * 2)
        ledger.wait(before + 2)
        began = time.monotonic()
        for handle in free.delay_many([((ledger.path, 0), {})] * 50):
            handle.get(timeout=3)
        assert time.monotonic() - began < 5  # of the time until the gate opens: never
        ledger.open_gate()
        for handle in held:
            handle.get(timeout=3)
        ledger.close_gate()


def test_what_waits_behind_a_long_task_is_handed_on(start: StartWorker, ledger: Ledger) -> None:
    start("--threads", "1")
    tasks.my_pid.delay_many([((), {})] * 200)[-1].get(timeout=5)  # short ones: the worker will claim ahead
    long = tasks.holds.delay(ledger.path, ledger.gate)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 50)
    ledger.wait()
    wait_for(lambda: get_broker().find([waiting[-1]._id])[0].state == "running")
    start("--threads", "1")
    for handle in waiting:
        handle.get(timeout=4)
    ledger.open_gate()
    long.get(timeout=5)
    assert len(ledger.events()) == 51
