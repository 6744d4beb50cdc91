"""Faults of whole machines: all of a worker stopped and continued, its clock stepped, a server unfit as a broker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from django_taskq.broker import get_broker
from tests.conftest import StartWorker
from tests.servers import RedisServer, WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger, losses_of, outcomes, task_processes, traces

HOUR = 3600.0
MODULES = [*TASKS, "tests.chaos.injected"]


def machine(directory: Path, number: int) -> dict[str, str]:
    """The environment of a worker whose clock can be set, and whose reclaimer needs less than three seconds."""
    return {
        "CHAOS_MACHINE": str(number), "CHAOS_DIRECTORY": str(directory), "CHAOS_CONSTANTS": '{"limit": 2.5}'
    }  # fmt: skip


def set_clock(directory: Path, number: int, seconds: float) -> None:
    """A worker's wall clock is ahead by so much from now on."""
    (directory / f"clock-{number}").write_text(str(seconds))


def beaten(workers: list[str]) -> bytes:
    """What workers were running as of their last beat."""
    broker = get_broker()
    return b"\n".join(broker.connections.execute("HGET", broker.keys.worker(id), "running") or b"" for id in workers)


def supervised(process: WorkerProcess) -> list[str]:
    return sorted(process.ids)


@pytest.mark.long
def test_a_machine_that_was_suspended_settles_nothing_of_what_others_took_over(
    start: StartWorker, ledger: Ledger, tmp_path: Path
) -> None:
    first = start("--threads", "2", "--processes", "2", tasks=MODULES, env=machine(tmp_path, 0))
    old, registered = task_processes(first), supervised(first)
    call = (ledger.path, ledger.gate)
    running = [*tasks.holds.delay_many([(call, {})] * 3), tasks.holds_async.delay(*call)]
    ledger.wait(4)
    wait_for(lambda: beaten(registered).count(b" default:0") == 4)
    first.freeze()
    second = start("--threads", "8", tasks=MODULES, env=machine(tmp_path, 1))
    again = ledger.wait(8, timeout=8)[4:]
    assert {line["pid"] for line in again} == set(task_processes(second))
    first.thaw()
    ledger.open_gate()
    for handle in running:
        assert handle.get(timeout=5) == ""
        assert losses_of(handle) == 1
    ledger.wait(8, "end")
    wait_for(lambda: not set(old) & set(first.children()), 8)
    wait_for(lambda: len(supervised(first)) == 2 and not set(supervised(first)) & set(registered), 8)
    ids = [outcome.id for outcome in outcomes()]
    assert sorted(ids) == sorted(handle._id for handle in running)
    assert first.output().count("was no longer this worker's: its outcome is void") == 4
    assert first.output().count("was declared dead: its tasks went to others") == 2
    assert (first.terminate(), second.terminate()) == (0, 0)
    assert traces() == []


def test_a_machines_clock_decides_nothing(start: StartWorker, ledger: Ledger, tmp_path: Path) -> None:
    """It goes an hour ahead and an hour back while tasks run, wait for their time, and have limits."""
    process = start("--threads", "4", tasks=MODULES, env=machine(tmp_path, 0))
    (worker,) = process.ids
    handles = []
    for step in (HOUR, -HOUR, 0.0):
        tasks.my_pid.delay().get(timeout=5)
        limited = tasks.works.using(timeout=30, hard_timeout=40).delay(ledger.path, 1.0, "limited")
        expiring = tasks.works.using(expires=5, run_after=0.6).delay(ledger.path, 0, "expiring")
        sent = time.time()
        delayed = tasks.works.using(run_after=1.2).delay(ledger.path, 0, f"delayed {step}")
        set_clock(tmp_path, 0, step)
        timed_out = tasks.works.using(timeout=0.3, max_retries=0).delay(ledger.path, 30, "timed out")
        for handle in (limited, expiring, delayed):
            handle.get(timeout=8)
        handles += [limited, expiring, delayed]
        wait_for(lambda timed_out=timed_out: get_broker().find([timed_out._id])[0].outcome, 3)
        outcome = get_broker().find([delayed._id])[0].outcome
        assert outcome is not None
        assert outcome.first_started is not None
        assert outcome.finished is not None
        # In Redis' time, whatever the worker's clock says.
        assert outcome.first_started - sent == pytest.approx(1.25, abs=0.25)
        assert outcome.finished - sent == pytest.approx(1.25, abs=0.3)
    assert process.ids == [worker]
    assert [losses_of(handle) for handle in handles] == [0] * 9
    assert "counts as dead" not in process.output()


def test_a_worker_says_at_its_start_what_is_wrong_with_its_redis(
    start: StartWorker, redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        set_clock(tmp_path, 0, HOUR)
        process = start("--burst", tasks=MODULES, env=machine(tmp_path, 0))
        assert process.wait() == 0
        client.config_set("appendonly", "yes")
    output = process.output()
    assert "Redis evicts keys when memory is full (maxmemory-policy allkeys-lru): tasks get lost." in output
    assert "Redis keeps nothing on disk: a restart loses every task. Set appendonly yes" in output
    assert "clock" in output
