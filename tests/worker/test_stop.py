"""Stopping a worker: what runs is finished or handed on, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime

import pytest

from django_taskq.broker import get_broker
from tests.conftest import StartWorker
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger, group_members, losses_of, task_processes, traces


def said_at(process: WorkerProcess, text: str) -> datetime:
    """When its log says so; its end may take a busy machine longer."""
    (line,) = [line for line in process.output().splitlines() if text in line]
    return datetime.strptime(" ".join(line.split()[:2]), "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)


def assert_gone(process: WorkerProcess) -> None:
    wait_for(lambda: group_members(process.pid) == [], 2, lambda: group_members(process.pid))
    assert traces() == []


def test_sigterm_lets_running_tasks_finish_and_leaves_the_rest(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2", "--processes", "2")
    call = (ledger.path, ledger.gate)
    running = [*tasks.holds.delay_many([(call, {})] * 4), *tasks.holds_async.delay_many([(call, {})] * 2)]
    ledger.wait(6)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 5)
    process.signal(signal.SIGTERM)
    process.wait_for_output("worker stops")
    time.sleep(0.3)
    assert process.alive
    ledger.open_gate()
    assert process.wait(3) == 0
    assert len(ledger.events("end")) == 6
    assert all(handle.get(timeout=1) == "" for handle in running)
    states = {get_broker().find([handle._id])[0].state for handle in waiting}
    assert states == {"queued"}
    assert_gone(process)
    output = process.output()
    assert "starts: queues default, mail, slow, 2 process(es) with 2 threads and 200 async tasks each" in output
    assert "worker stops: running tasks have 25 s to finish" in output
    assert output.rstrip().endswith("stopped")


def test_an_idle_worker_stops_at_once(start: StartWorker) -> None:
    process = start("--processes", "2")
    time.sleep(0.2)
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 5  # of the 25 that running tasks have
    assert_gone(process)


def test_what_does_not_finish_in_time_runs_elsewhere(start: StartWorker, ledger: Ledger) -> None:
    first = start("--threads", "2", "--shutdown-timeout", "1")
    call = (ledger.path, ledger.gate)
    # It has started: its `expires` does not count any more.
    handles = [tasks.holds.using(expires=0.5).delay(*call), tasks.holds_async.delay(*call)]
    ledger.wait(2)
    second = start("--threads", "2")
    assert first.terminate() == 0
    stopped = time.time()
    took = said_at(first, "released 2 running tasks") - said_at(first, "worker stops")
    assert 0.9 < took.total_seconds() < 2.5
    assert max(line["at"] for line in ledger.wait(4)) < stopped + 0.3
    assert "released 2 running tasks to other workers" in first.output()
    ledger.open_gate()
    for handle in handles:
        handle.get(timeout=5)
        assert losses_of(handle) == 0
    assert len(ledger.events("end")) == 2
    assert second.terminate() == 0
    assert_gone(second)


def test_a_second_sigterm_hurries(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    process.signal(signal.SIGTERM)
    process.wait_for_output("worker stops")
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 5  # of 25
    assert "worker stops now: running tasks go to other workers" in process.output()
    assert get_broker().find([handle._id])[0].state == "queued"
    assert_gone(process)
    start("--threads", "2")
    assert ledger.wait(2)
    ledger.open_gate()
    handle.get(timeout=5)


def test_a_blocked_thread_does_not_keep_the_process(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2", "--shutdown-timeout", "0")
    handles = [tasks.blocks.delay(ledger.path, 60), tasks.waits_for_a_thread.delay(ledger.path, 60)]
    tasks.leaves_a_thread.delay(60).get(timeout=5)
    ledger.wait(2)
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 5  # of 60
    assert [get_broker().find([handle._id])[0].state for handle in handles] == ["queued", "queued"]
    assert_gone(process)


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group_and_stops_it_in_good_order(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2", "--processes", "2")
    handle = tasks.works.delay(ledger.path, 0.6)
    ledger.wait()
    process.signal_group(signal.SIGINT)
    assert process.wait() == 0
    assert handle.get(timeout=1) == ""
    assert_gone(process)


def test_sigterm_to_the_whole_group_stops_it_in_good_order(start: StartWorker, ledger: Ledger) -> None:
    """As an init system does that ends a control group."""
    process = start("--threads", "2", "--processes", "2")
    handle = tasks.works.delay(ledger.path, 0.6)
    ledger.wait()
    process.signal_group(signal.SIGTERM)
    assert process.wait() == 0
    assert handle.get(timeout=1) == ""
    assert_gone(process)
    assert "died" not in process.output()


def test_sigterm_to_a_task_process_alone_replaces_it(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    (old,) = task_processes(process)
    handle = tasks.works.delay(ledger.path, 0.6)
    ledger.wait()
    os.kill(old, signal.SIGTERM)
    assert handle.get(timeout=5) == ""
    wait_for(lambda: old not in process.children(), 3)
    assert tasks.my_pid.delay().get(timeout=5) != old
    assert len(ledger.events()) == 1
    assert "died" not in process.output()
    assert process.terminate() == 0
    assert_gone(process)


@pytest.mark.slow
def test_a_token_that_woke_a_stopping_worker_wakes_another(start: StartWorker, ledger: Ledger) -> None:
    """Two workers sleep; tasks come while one of them is told to stop: none waits for the other's sleep to end."""
    start("--threads", "1")
    second = start("--threads", "1")
    time.sleep(0.2)
    second.signal(signal.SIGTERM)
    began = time.monotonic()
    for _ in range(10):
        tasks.works.delay(ledger.path, 0).get(timeout=5)
        time.sleep(0.01)
    assert time.monotonic() - began < 2
    assert second.wait() == 0


@pytest.mark.slow
def test_a_quiet_worker_finishes_and_claims_nothing(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    (pid,) = task_processes(process)
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    broker = get_broker()
    broker.connections.execute("RPUSH", broker.keys.inbox(process.ids[0]), "quiet")
    wait_for(lambda: broker.connections.execute("HGET", broker.keys.worker(process.ids[0]), "state") == b"quiet")
    waiting = tasks.works.delay(ledger.path, 0)
    ledger.open_gate()
    assert handle.get(timeout=5) == ""
    time.sleep(0.5)
    waiting.refresh()
    assert waiting.status == "queued"
    assert task_processes(process) == [pid]
    assert process.terminate() == 0
    assert_gone(process)
