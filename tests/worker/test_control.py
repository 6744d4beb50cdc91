"""What an operator asks of a worker reaches it with its next beat."""

from __future__ import annotations

import os
import signal
import time

import pytest

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, WorkerState
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger, task_processes, traces

REACHED = 2.0  # seconds that a request may take


def workers() -> list[WorkerState]:
    return Inspector(get_broker()).workers()


def states() -> list[str]:
    return sorted(worker.state for worker in workers())


def ask(worker: str, request: str) -> bool:
    return Inspector(get_broker()).control(worker, request)


def test_a_quiet_worker_finishes_and_claims_nothing(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    running = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    [worker] = workers()
    assert ask(worker.id, "quiet")
    wait_for(lambda: states() == ["quiet"], REACHED)
    wait_for(lambda: "claims nothing more" in process.output(), REACHED)
    waiting = tasks.works.delay(ledger.path, 0)
    ledger.open_gate()
    assert running.get(timeout=3) == ""
    time.sleep(0.3)
    waiting.refresh()
    assert waiting.status == "queued"
    assert ask(worker.id, "quiet")  # asked twice
    other = start("--threads", "2")
    waiting.get(timeout=5)
    assert process.alive
    assert process.terminate() == 0
    assert other.terminate() == 0
    assert traces() == []


def test_a_stopped_worker_finishes_and_is_not_replaced(start: StartWorker, ledger: Ledger) -> None:
    process = start("--processes", "2", "--threads", "1")
    handles = [tasks.holds.delay(ledger.path, ledger.gate) for _ in range(2)]
    ledger.wait(2)
    first, second = workers()
    assert ask(first.id, "stop")
    assert ask(first.id, "stop")
    wait_for(lambda: states() == ["running", "stopping"], REACHED)
    ledger.open_gate()
    for handle in handles:
        assert handle.get(timeout=3) == ""
    wait_for(lambda: [worker.id for worker in workers()] == [second.id], 3)
    time.sleep(0.6)
    assert len(task_processes(process)) == 1
    assert process.alive
    assert ask(second.id, "stop")
    assert process.wait(4) == 0
    assert "is told to stop, and is not replaced" in process.output()
    assert traces() == []


def test_one_that_does_not_end_in_time_hands_its_tasks_on(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "1", "--shutdown-timeout", "1")
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    [worker] = workers()
    assert ask(worker.id, "stop")
    assert process.wait(6) == 0
    assert "released 1 running tasks to other workers" in process.output()
    start("--threads", "1")
    ledger.open_gate()
    assert handle.get(timeout=5) == ""


def test_the_others_of_a_worker_are_still_replaced(start: StartWorker) -> None:
    process = start("--processes", "2")
    first, second = workers()
    assert ask(first.id, "quiet")
    wait_for(lambda: states() == ["quiet", "running"], REACHED)
    os.kill(second.pid, signal.SIGKILL)
    wait_for(lambda: {worker.id for worker in workers()} - {first.id, second.id}, 3)
    wait_for(lambda: states() == ["quiet", "running"], 3)
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: states() == ["running"], 3)
    time.sleep(0.6)
    assert len(task_processes(process)) == 1
    assert process.terminate() == 0


@pytest.mark.usefixtures("broker")
def test_nobody_is_asked_who_is_not_there() -> None:
    assert ask("nobody", "stop") is False
    with pytest.raises(ValueError, match="quiet or to stop, not 'dance'"):
        ask("nobody", "dance")
    assert get_broker().connections.execute("KEYS", "*") == []
