"""Cancelling a task, wherever it is."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from django_taskq import TaskHandle
from django_taskq.broker import Broker, get_broker
from django_taskq.core.ids import new_id
from django_taskq.exceptions import TaskFailed
from tests.conftest import StartWorker
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger
from tests.worker.inside import Crew


def reason_of(handle: TaskHandle[Any]) -> str:
    with pytest.raises(TaskFailed) as caught:
        handle.get(timeout=8)
    assert caught.value.status == "cancelled"
    outcome = get_broker().find([handle._id])[0].outcome
    assert outcome is not None
    return outcome.reason


def test_a_scheduled_task_is_cancelled_at_once(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.works.using(run_after=0.3).delay(ledger.path, 0)
    assert handle.cancel() is True
    assert reason_of(handle)
    time.sleep(0.4)
    assert ledger.read() == []


def test_a_queued_task_is_cancelled_at_once(start: StartWorker, ledger: Ledger) -> None:
    handle, other = tasks.works.delay(ledger.path, 0, "cancelled"), tasks.works.delay(ledger.path, 0, "other")
    assert handle.cancel() is True
    start("--burst").wait()
    assert [line["name"] for line in ledger.events()] == ["other"]
    assert other.get(timeout=1) == "other"


def test_a_thread_gets_the_exception_raised_a_coroutine_is_cancelled_and_their_neighbours_go_on(
    running: WorkerProcess, ledger: Ledger
) -> None:
    call = (ledger.path, 30)
    handles = [task.using(max_retries=3).delay(*call) for task in (tasks.works, tasks.works_async)]
    neighbours = [task.delay(ledger.path, ledger.gate) for task in (tasks.holds, tasks.holds_async) for _ in range(2)]
    ledger.wait(6)
    assert [handle.cancel() for handle in handles] == [False, False]
    for handle in handles:
        assert reason_of(handle) == "cancelled while it ran"
        outcome = get_broker().find([handle._id])[0].outcome
        assert outcome is not None
        assert outcome.attempts == 1
    assert (len(ledger.events("TaskCancelled")), len(ledger.events("CancelledError"))) == (1, 1)
    ledger.open_gate()
    for neighbour in neighbours:
        neighbour.get(timeout=5)
    assert len(ledger.events()) == 6


def test_a_task_between_two_attempts_is_cancelled_at_once(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.asks_again.delay(ledger.path, 30)
    wait_for(lambda: get_broker().find([handle._id])[0].state == "scheduled")
    assert handle.cancel() is True
    reason_of(handle)


def test_a_task_that_fails_on_being_cancelled_is_not_tried_again(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.fails_when_cancelled.delay(ledger.path)
    ledger.wait()
    assert handle.cancel() is False
    assert reason_of(handle) == "cancelled before its next attempt"
    assert len(ledger.events()) == 1


def test_a_task_that_waits_in_a_worker_never_starts(start: StartWorker, ledger: Ledger) -> None:
    start("--threads", "1")
    tasks.my_pid.delay_many([((), {})] * 200)[-1].get(timeout=5)  # short ones: the worker will claim ahead
    blocker = tasks.works.delay(ledger.path, 1.5, "blocker")
    ledger.wait()
    waiting = tasks.works.delay(ledger.path, 0, "waiting")
    wait_for(lambda: get_broker().find([waiting._id])[0].state == "running")
    assert waiting.cancel() is False
    blocker.get(timeout=5)
    assert reason_of(waiting) == "cancelled before it was run again"
    assert [line["name"] for line in ledger.events()] == ["blocker"]


def test_a_request_that_overtakes_its_task_is_honoured(start: StartWorker, ledger: Ledger) -> None:
    """The worker is told while the claim's reply is still on its way to it."""
    process = start("--threads", "2")
    broker, id, entry = get_broker(), new_id(), f"{int(time.time() * 1000) + 60_000}-0"
    inbox = broker.keys.inbox(process.ids[0])
    broker.connections.execute("RPUSH", inbox, f"cancel {entry} default:0")
    wait_for(lambda: not broker.connections.execute("EXISTS", inbox), 5)  # a later beat has confirmed it
    fields = ("i", id, "t", tasks.works.name, "a", msgspec.json.encode([ledger.path, 30]))
    broker.connections.execute("XADD", broker.keys.lane("default", 0), entry, *fields)
    wait_for(lambda: broker.find([id])[0].state == "cancelled", 8)
    assert reason_of(TaskHandle(id)).startswith("cancelled")
    assert len(ledger.events("end")) == 0


def test_a_task_whose_claim_was_lost_is_found_cancelled(broker: Broker) -> None:
    """Claimed in a reply that never came, then cancelled: the comparison finds both."""
    tasks.ran.clear()
    crew = Crew(broker)
    crew.register.register(crew.worker, {})
    cancelled, other = tasks.notes_number.delay(1), tasks.notes_number.delay(2)
    connection = broker.connections.open()
    crew.claimer._deliveries.claim(connection, 20, 0.0, lease_ms=0, awake=True)
    assert cancelled.cancel() is False
    crew.claimer._compare(connection)
    connection.disconnect()
    other.get(timeout=5)
    assert reason_of(cancelled) == "cancelled before it was run again"
    assert tasks.ran == [2]
    assert not broker.connections.execute("EXISTS", broker.keys.cancels)
    crew.end()


def test_a_task_that_has_ended_cannot_be_cancelled(running: WorkerProcess) -> None:
    handle = tasks.my_pid.delay()
    handle.get(timeout=5)
    assert handle.cancel() is None
    assert handle.status == "succeeded"


def test_no_request_is_left_behind(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.works.delay(ledger.path, 1.2)
    ledger.wait()
    handle.cancel()
    reason_of(handle)
    broker = get_broker()
    wait_for(lambda: not broker.connections.execute("EXISTS", broker.keys.cancels))
    wait_for(lambda: not broker.connections.execute("EXISTS", broker.keys.inbox(running.ids[0])))
