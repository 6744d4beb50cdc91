"""Processes that die: what they held runs elsewhere, and who was to blame is counted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.broker.workers import Workers
from django_taskq.core.outcome import Outcome
from django_taskq.exceptions import TaskFailed, TaskqError
from django_taskq.models import TaskResult
from django_taskq.worker.reclaimer import Reclaimer
from tests.conftest import StartWorker
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import (
    Ledger,
    group_members,
    losses_of,
    maintenance_process,
    outcomes,
    task_processes,
    traces,
)

LIMIT = 1.6  # seconds; 15 in a worker's own reclaimer


@pytest.fixture
def impatient_reclaimer(broker: Any) -> Iterator[None]:
    """A reclaimer that needs less than two seconds to declare a worker dead."""
    stop = threading.Event()
    connections = broker.connections
    reclaimer = Reclaimer(Workers(connections, broker.keys), LIMIT)

    def run() -> None:
        while not stop.wait(0.1):
            try:
                reclaimer.run_once(time.monotonic())
            except TaskqError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def warm_up(count: int = 200) -> None:
    """Short tasks, after which a worker claims ahead."""
    tasks.my_pid.delay_many([((), {})] * count)[-1].get(timeout=5)


def failure_of(handle: TaskHandle[Any]) -> Outcome:
    with pytest.raises(TaskFailed):
        handle.get(timeout=20)
    outcome = get_broker().find([handle._id])[0].outcome
    assert outcome is not None
    return outcome


def attempts_of(handle: TaskHandle[Any]) -> int:
    outcome = get_broker().find([handle._id])[0].outcome
    assert outcome is not None
    return outcome.attempts


def assert_each_ended_once(handles: list[TaskHandle[Any]]) -> None:
    ids = [outcome.id for outcome in outcomes()]
    assert sorted(ids.count(handle._id) for handle in handles) == [1] * len(handles)


def test_what_a_killed_process_held_runs_again_at_once(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    warm_up()
    (old,) = task_processes(process)
    (id,) = process.ids
    started = tasks.holds.delay_many([((ledger.path, ledger.gate), {})] * 2)
    ledger.wait(2)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 10)
    wait_for(lambda: get_broker().find([waiting[-1]._id])[0].state == "running")
    asynchronous = tasks.holds_async.delay(ledger.path, ledger.gate)
    ledger.wait(3)
    killed = time.time()
    os.kill(old, signal.SIGKILL)
    assert max(line["at"] for line in ledger.wait(5)) - killed < 2
    ledger.open_gate()
    for handle in (*started, asynchronous, *waiting):
        handle.get(timeout=5)
    assert [losses_of(handle) for handle in (*started, asynchronous)] == [1, 1, 1]
    assert [losses_of(handle) for handle in waiting] == [0] * 10
    assert_each_ended_once([*started, asynchronous, *waiting])
    assert [attempts_of(handle) for handle in started] == [1, 1]
    assert "died (SIGKILL) with 3 tasks running, entries " in process.output()
    assert len(process.children()) == 2
    assert len(process.ids) == 1
    assert process.ids != [id]
    assert process.terminate() == 0
    assert traces(sleepers=False) == []


def test_children_of_a_killed_supervisor_finish_and_end(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2", "--processes", "2")
    warm_up()
    call = (ledger.path, ledger.gate)
    running = [*tasks.holds.delay_many([(call, {})] * 4), tasks.holds_async.delay(*call)]
    ledger.wait(5)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 10)
    process.kill()
    wait_for(lambda: process.output().count("has lost its supervisor") == 3)
    ledger.open_gate()
    wait_for(lambda: group_members(process.pid) == [], 5, lambda: group_members(process.pid))
    for handle in running:
        assert handle.get(timeout=1) == ""
        assert losses_of(handle) == 0
    assert traces(sleepers=False) == []
    start("--threads", "2")
    for handle in waiting:
        handle.get(timeout=5)
        assert losses_of(handle) == 0
    assert len(ledger.events()) == 15


def test_the_maintenance_process_is_restarted_and_recording_goes_on(start: StartWorker, ledger: Ledger) -> None:
    process = start()
    first = tasks.works.delay(ledger.path, 0)
    wait_for(lambda: TaskResult.objects.filter(id=first.id).exists())
    old = maintenance_process(process)
    os.kill(old, signal.SIGKILL)
    second = tasks.works.delay(ledger.path, 0)
    second.get(timeout=5)
    wait_for(lambda: len(process.children()) == 2 and old not in process.children(), 5)
    # The dead recorder's lease has to run out.
    wait_for(lambda: TaskResult.objects.filter(id=second.id).exists(), 14)
    assert "the maintenance process died (SIGKILL)" in process.output()


@pytest.mark.usefixtures("impatient_reclaimer")
@pytest.mark.slow
def test_another_worker_takes_over_from_a_dead_machine(start: StartWorker, ledger: Ledger) -> None:
    first = start("--threads", "2", "--processes", "2")
    warm_up()
    call = (ledger.path, ledger.gate)
    running = [*tasks.holds.delay_many([(call, {})] * 4), tasks.holds_async.delay(*call)]
    ledger.wait(5)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 10)
    wait_for(lambda: sum(running.count(b"\n") + 1 for running in running_of(first)) == 5)
    first.kill_tree()
    killed = time.time()
    second = start("--threads", "8")
    again = [line for line in ledger.wait(20, timeout=8) if line["pid"] in task_processes(second)]
    assert max(line["at"] for line in again) - killed < LIMIT + 1.5
    for handle in waiting:
        handle.get(timeout=5)
        assert losses_of(handle) == 0
    ledger.open_gate()
    for handle in running:
        handle.get(timeout=5)
        assert losses_of(handle) == 1
    assert_each_ended_once([*running, *waiting])
    assert second.terminate() == 0
    assert traces(sleepers=False) == []


def test_a_task_that_kills_its_process_runs_alone_the_third_time_and_is_buried_then(
    start: StartWorker, ledger: Ledger
) -> None:
    process = start("--threads", "4")
    neighbours: list[TaskHandle[Any]] = []
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.wait(0.05):
            neighbours.append(tasks.works.delay(ledger.path, 0.3, "neighbour"))

    thread = threading.Thread(target=keep_sending)
    thread.start()
    began = time.monotonic()
    outcome = failure_of(tasks.dies.delay(ledger.path, "each"))
    assert time.monotonic() - began < 6
    stop.set()
    thread.join()
    assert (outcome.status, outcome.reason, outcome.losses, outcome.attempts) == ("failed", "worker_lost", 3, 0)
    assert [attempt.how for attempt in outcome.history] == ["worker_lost"]
    assert "The worker died 3 times" in outcome.error_message
    for handle in neighbours:
        handle.get(timeout=10)
    assert max(losses_of(handle) for handle in neighbours) <= 2
    starts = [line for line in ledger.events() if "losses" in line]
    assert [line["losses"] for line in starts] == [0, 1, 2]
    beside = [line["id"] for line in ledger.events() if line["pid"] == starts[2]["pid"] and "losses" not in line]
    assert set(beside) - ended_before(ledger, starts[2]) == set()
    output = process.output()
    assert [output.count(f"died ({how})") for how in ("exit code 0", "SIGSEGV", "SIGKILL")] == [1, 1, 1]
    assert "task processes die as soon as they start; the next one starts in 0.5 s" in output
    assert "task processes die as soon as they start; the next one starts in 1.0 s" in output


def ended_before(ledger: Ledger, line: dict[str, Any]) -> set[str]:
    return {end["id"] for end in ledger.events("end") if end["at"] <= line["at"]}


@pytest.mark.usefixtures("impatient_reclaimer")
def test_a_stopped_process_that_continues_settles_nothing_and_makes_way(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "1", "--processes", "2")
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    old = ledger.wait()[0]["pid"]
    wait_for(lambda: running_of(process))
    os.kill(old, signal.SIGSTOP)
    assert ledger.wait(2, timeout=5)[1]["pid"] != old
    os.kill(old, signal.SIGCONT)
    ledger.open_gate()
    assert handle.get(timeout=5) == ""
    assert losses_of(handle) == 1
    wait_for(lambda: old not in process.children(), 5)
    wait_for(lambda: len(process.ids) == 2, 5)
    ledger.wait(2, "end")
    assert_each_ended_once([handle])
    output = process.output()
    assert "was no longer this worker's: its outcome is void" in output
    assert "it was declared dead" in output
    assert process.terminate() == 0
    assert traces(sleepers=False) == []


def running_of(process: WorkerProcess) -> list[bytes]:
    """What the last beats said that a worker's processes run."""
    broker = get_broker()
    said = [broker.connections.execute("HGET", broker.keys.worker(worker), "running") for worker in process.ids]
    return [running for running in said if running]


@pytest.mark.usefixtures("impatient_reclaimer")
@pytest.mark.slow
def test_a_process_whose_gil_is_held_is_alive(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    handle = tasks.hogs_the_gil.delay(ledger.path, 2.6)
    handle.get(timeout=10)
    assert losses_of(handle) == 0
    assert len(ledger.events()) == 1
    assert "dead" not in process.output()


@pytest.mark.usefixtures("impatient_reclaimer")
@pytest.mark.slow
def test_a_stopped_supervisor_costs_its_children_no_outcome(start: StartWorker, ledger: Ledger) -> None:
    """It does not beat for them: they are declared dead, their tasks run elsewhere, and each ends once."""
    process = start("--threads", "1")
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    other = start("--threads", "1")
    os.kill(process.pid, signal.SIGSTOP)
    ledger.wait(2, timeout=5)
    os.kill(process.pid, signal.SIGCONT)
    ledger.open_gate()
    assert handle.get(timeout=8) == ""
    ledger.wait(2, "end")
    assert_each_ended_once([handle])
    wait_for(lambda: len(process.ids) == 1 and len(task_processes(process)) == 1, 8)
    assert (process.terminate(), other.terminate()) == (0, 0)
    assert traces(sleepers=False) == []
