"""One thread that runs tasks and can be interrupted in the middle of one, and of that one only."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.worker.pools import ThreadPool
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger
from tests.worker.inside import Desk, delivery_of, end, kind_of, new_pool, outcome_in


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def pool(desk: Desk) -> Iterator[ThreadPool]:
    pool = new_pool(desk)
    yield pool
    end(pool)


def test_an_interruption_is_raised_in_the_task(pool: ThreadPool, desk: Desk) -> None:
    pool.put(delivery_of(tasks.loops))
    slot, work = wait_for(pool.running)[0]
    wait_for(lambda: slot.interrupt(work, TaskTimeout))
    (settlement,) = desk.wait(1)
    assert outcome_in(settlement).reason == "timeout"


def test_an_interruption_does_not_stop_a_traced_thread(desk: Desk) -> None:
    threading.settrace(lambda *_: None)  # as a debugger or coverage does
    try:
        pool = new_pool(desk)
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    pool.put(delivery_of(tasks.loops))
    slot, work = wait_for(pool.running)[0]
    wait_for(lambda: slot.interrupt(work, TaskTimeout))
    (settlement,) = desk.wait(1)
    assert outcome_in(settlement).reason == "timeout"
    end(pool)


def test_a_task_is_interrupted_once(pool: ThreadPool, desk: Desk) -> None:
    pool.put(delivery_of(tasks.loops))
    slot, work = wait_for(pool.running)[0]
    wait_for(lambda: slot.interrupt(work, TaskCancelled))
    assert not slot.interrupt(work, TaskTimeout)
    assert kind_of(desk.wait(1)[0]) == "cancelled"


def test_a_task_that_has_ended_is_not_interrupted(pool: ThreadPool, desk: Desk, ledger: Ledger) -> None:
    pool.put(delivery_of(tasks.holds, ledger.path, ledger.gate))
    slot, work = wait_for(pool.running)[0]
    ledger.open_gate()
    desk.wait(1)
    wait_for(lambda: slot.work is None)
    assert not slot.interrupt(work, TaskTimeout)
    assert not slot.abandon(work)


def test_an_abandoned_thread_settles_nothing_and_takes_nothing_more(
    pool: ThreadPool, desk: Desk, ledger: Ledger
) -> None:
    pool.put(delivery_of(tasks.blocks, ledger.path, 0.3))
    slot, work = wait_for(pool.running)[0]
    ledger.wait()
    assert slot.abandon(work)
    assert not slot.abandon(work)
    pool.replace(slot)
    assert (len(pool.slots), pool.busy) == (2, 0)
    ledger.wait(1, "end")
    wait_for(lambda: not slot.thread.is_alive())
    assert desk.settlements == []
    assert pool.notes.read() == []


def test_there_is_a_replacement_for_every_thread_and_no_more(ledger: Ledger) -> None:
    desk = Desk()
    pool = new_pool(desk, 2)
    for stuck in range(4):
        pool.put(delivery_of(tasks.blocks, ledger.path, 1.0))
        ledger.wait(stuck + 1)
        slot, work = pool.running()[0]
        assert slot.abandon(work)
        pool.replace(slot)
    assert (len(pool.slots), pool.busy, pool.running()) == (0, 0, [])
    assert len(pool.notes.read()) == 4


@pytest.fixture
def fast_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switching")
@pytest.mark.parametrize("enough", [150, pytest.param(1500, marks=pytest.mark.long)])
def test_a_late_exception_never_hits_the_next_task(enough: int) -> None:
    """Hundreds of interruptions at every moment around the end of a task."""
    desk, fired = Desk(), set()
    pool = new_pool(desk, 2)
    slots = list(pool.slots)
    done = threading.Event()

    def interrupt_at_random() -> None:
        chance = random.Random(7)
        while not done.is_set():
            for slot in slots:
                work = slot.work
                if work is not None and chance.random() < 0.5 and slot.interrupt(work, TaskTimeout):
                    fired.add(work.delivery.location)

    def kinds() -> set[tuple[str, str]]:
        """How those ended that were interrupted in time, and too late."""
        ended = {settlement.delivery.location: settlement for settlement in list(desk.settlements)}
        hit = [outcome_in(ended[location]) for location in fired.copy()]
        return {(outcome.status, outcome.reason) for outcome in hit}

    threads = [threading.Thread(target=interrupt_at_random) for _ in range(2)]
    for thread in threads:
        thread.start()
    deliveries = []
    deadline = time.monotonic() + 20
    while (len(fired) < enough or len(kinds()) < 2) and time.monotonic() < deadline:
        batch = [delivery_of(tasks.spins, random.randrange(2_000)) for _ in range(200)]
        deliveries += batch
        for delivery in batch:
            pool.put(delivery)
        desk.wait(len(deliveries))
    done.set()
    for thread in threads:
        thread.join()
    time.sleep(0.05)
    settlements, tries = desk.settlements, len(deliveries)
    assert len(desk.settlements) == tries
    assert {settlement.delivery.location for settlement in settlements} == {item.location for item in deliveries}
    ends = {settlement.delivery.location: outcome_in(settlement) for settlement in settlements}
    innocent = [outcome for location, outcome in ends.items() if location not in fired]
    assert {outcome.status for outcome in innocent} == {"succeeded"}
    assert kinds() == {("failed", "timeout"), ("succeeded", "")}
    assert len(fired) >= 50, (len(fired), tries)
    assert pool.slots == slots
    assert all(slot.thread.is_alive() and not slot.busy for slot in slots)
    assert pool.notes.read() == []
    end(pool)
