"""What a worker does when Redis restarts, forgets, is full, or is away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from django_taskq.broker import Broker, get_broker, scripts
from django_taskq.broker.workers import Workers
from django_taskq.exceptions import BrokerFull
from django_taskq.models import TaskResult
from django_taskq.worker import reclaimer
from tests.chaos.proxy import Cut, Proxy
from tests.conftest import StartWorker
from tests.servers import RedisServer, wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger, losses_of, maintenance_process, outcomes, task_processes, traces


def test_a_restart_while_idle_is_survived(start: StartWorker, redis_server: RedisServer) -> None:
    process = start("--threads", "2")
    time.sleep(0.3)
    redis_server.restart()
    assert tasks.my_pid.delay().get(timeout=8) in process.children()
    assert 1 <= process.output().count("claiming stops until Redis is back") <= 2  # away, then perhaps loading
    assert process.terminate() == 0
    assert traces() == []


def test_a_restart_while_busy_loses_nothing(start: StartWorker, redis_server: RedisServer, ledger: Ledger) -> None:
    process = start("--threads", "2")
    call = (ledger.path, ledger.gate)
    running = [tasks.holds.delay(*call), tasks.holds_async.delay(*call)]
    ledger.wait(2)
    waiting = tasks.works.delay_many([((ledger.path, 0), {})] * 20)
    redis_server.stop()
    ledger.open_gate()
    ledger.wait(2, "end")
    wait_for(lambda: "wait to be settled" in process.output())
    redis_server.start()
    for handle in (*running, *waiting):
        handle.get(timeout=8)
        assert losses_of(handle) == 0
    assert len(ledger.events()) == 22
    assert len({outcome.id for outcome in outcomes()}) == len(outcomes()) == 22
    assert process.terminate() == 0
    assert traces() == []


@pytest.fixture
def reclaiming(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reclaimer that declares workers dead after 1.6 s."""
    monkeypatch.setattr(reclaimer, "EVERY", 0.1)
    stop = threading.Event()
    thread = threading.Thread(
        target=reclaimer.Reclaimer(Workers(broker.connections, broker.keys), 1.6).run, args=(stop,)
    )
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("reclaiming")
def test_while_redis_is_away_nobody_is_declared_dead(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    process = start("--threads", "2")
    handle = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    pids = task_processes(process)
    time.sleep(0.5)
    redis_server.stop()
    time.sleep(2.5)
    redis_server.start()
    time.sleep(1.2)
    ledger.open_gate()
    handle.get(timeout=8)
    assert losses_of(handle) == 0
    assert len(ledger.events()) == 1
    assert task_processes(process) == pids
    assert "counts as dead" not in process.output()


@pytest.mark.slow
def test_a_worker_that_starts_without_redis_says_so_and_waits(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    redis_server.stop()
    process = start("--threads", "2", wait=False)
    process.wait_for_output("cannot be reached")
    process.wait_for_output("the worker goes on trying")
    redis_server.start()
    tasks.works.delay(ledger.path, 0).get(timeout=8)
    assert process.terminate() == 0


@pytest.mark.slow
def test_a_worker_that_stops_while_redis_is_away_ends_in_good_time(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    """What it could not settle runs again; nothing is lost."""
    process = start("--threads", "2", "--shutdown-timeout", "0", tasks=[*TASKS, "tests.worker.impatient"])
    handle = tasks.works.delay(ledger.path, 0.3)
    ledger.wait()
    redis_server.stop()
    ledger.wait(1, "end")
    wait_for(lambda: "wait to be settled" in process.output())
    began = time.monotonic()
    assert process.terminate(20) == 0
    assert time.monotonic() - began < 5
    assert "not settled and will run again" in process.output()
    redis_server.start()
    get_broker().connections.close()
    workers = Workers(get_broker().connections, get_broker().keys)
    for worker in workers.counters():
        workers.declare_dead(worker, None, [])
        assert workers.reclaim(worker) == 1
    start("--threads", "2")
    handle.get(timeout=8)
    assert len(ledger.events()) == 2


def test_forgotten_scripts_are_loaded_again(start: StartWorker, redis_server: RedisServer, ledger: Ledger) -> None:
    process = start("--threads", "2")
    running = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    with redis_server.client() as client:
        client.script_flush()
    ledger.open_gate()
    running.get(timeout=5)
    tasks.fails.using(max_retries=1).delay(ledger.path, 1).get(timeout=5)
    assert tasks.my_pid.delay().get(timeout=5) in process.children()
    assert "WARNING django_taskq.worker: claiming" not in process.output()


def test_after_flushall_the_worker_registers_anew_and_goes_on(start: StartWorker, redis_server: RedisServer) -> None:
    process = start("--threads", "2")
    (before,) = process.ids
    assert tasks.my_pid.delay().get(timeout=5)
    redis_server.flush()
    wait_for(lambda: process.ids and process.ids != [before], 5)
    assert tasks.my_pid.delay().get(timeout=5) in process.children()
    assert len(process.ids) == 1
    assert process.terminate() == 0
    assert traces() == []


@pytest.mark.slow
def test_a_deleted_stream_and_a_destroyed_group_do_not_stop_the_worker(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    process = start("--threads", "2")
    lane = get_broker().keys.lane("default", 0)
    lost = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait()
    with redis_server.client() as client:
        client.delete(lane)
    tasks.works.delay(ledger.path, 0).get(timeout=5)
    kept = tasks.works.delay(ledger.path, 0.4)
    ledger.wait(3)
    with redis_server.client() as client:
        client.xgroup_destroy(lane, "workers")
    ledger.open_gate()
    ledger.wait(3, "end")
    assert tasks.my_pid.delay().get(timeout=5) in process.children()  # its claim makes the group anew
    kept.get(timeout=8)
    assert get_broker().find([lost._id])[0].state is None
    assert process.output().count("was no longer this worker's: its outcome is void") >= 1
    assert process.terminate() == 0
    assert traces() == []


def test_a_full_redis_refuses_producers_and_still_drains(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    handles = tasks.works.delay_many([((ledger.path, 0), {})] * 300)
    failing = tasks.fails.using(max_retries=1).delay(ledger.path, 9)
    scheduled = tasks.works.using(run_after=0.5).delay(ledger.path, 0)
    with redis_server.client() as client:
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"] * 0.8)))
        with pytest.raises(BrokerFull):
            tasks.works.delay(ledger.path, 0)
        process = start("--threads", "2", taskq={"MAX_OUTCOMES": 10_000})
        for handle in (*handles, scheduled):
            handle.get(timeout=10)
        wait_for(lambda: get_broker().find([failing._id])[0].state == "failed")
        client.config_set("maxmemory", "0")
    assert len(ledger.events("end")) == 301
    assert process.terminate() == 0
    assert traces() == []


def test_claiming_stops_while_too_many_outcomes_wait_for_the_database(start: StartWorker) -> None:
    process = start("--threads", "2", taskq={"MAX_OUTCOMES": 20})
    maintenance = maintenance_process(process)
    os.kill(maintenance, signal.SIGSTOP)
    handles = tasks.works.delay_many([(("/dev/null", 0.02), {})] * 200)
    process.wait_for_output("claiming stops: too many outcomes wait for the database (MAX_OUTCOMES)")
    broker = get_broker()
    time.sleep(0.3)
    lag = broker.recorder_lag()
    assert 20 <= lag < 100  # what was claimed before is finished
    time.sleep(0.5)
    assert broker.recorder_lag() == lag
    os.kill(maintenance, signal.SIGCONT)
    handles[-1].get(timeout=10)
    wait_for(lambda: TaskResult.objects.count() == 200)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy("127.0.0.1", redis_server.port)
    yield proxy
    proxy.close()


def test_a_claim_whose_reply_was_lost_is_found_by_comparing(start: StartWorker, proxy: Proxy, ledger: Ledger) -> None:
    process = start("--threads", "4", taskq={"BROKER": f"redis://127.0.0.1:{proxy.port}/0"})
    time.sleep(0.2)
    handles = []
    for _ in range(3):
        cut = Cut(scripts.CLAIM.sha.encode(), deliver=True)
        proxy.cut(cut)
        handles += tasks.works.delay_many([((ledger.path, 0), {})] * 3)
        for handle in handles:
            handle.get(timeout=5)
        assert cut.hit.is_set()
    assert len(ledger.events()) == 9
    assert [losses_of(handle) for handle in handles] == [0] * 9
    assert sorted(outcome.id for outcome in outcomes()) == sorted(handle._id for handle in handles)
    assert "had been claimed in a reply that never came; running them now" in process.output()


@pytest.mark.slow
def test_a_settlement_whose_reply_was_lost_stands_once(start: StartWorker, proxy: Proxy, ledger: Ledger) -> None:
    process = start(
        "--threads", "4", taskq={"BROKER": f"redis://127.0.0.1:{proxy.port}/0"},
        tasks=[*TASKS, "tests.worker.listeners"], env={"TASKQ_TEST_LEDGER": ledger.path},
    )  # fmt: skip
    sent = []
    for script, task in (
        (scripts.COMPLETE, tasks.works.using(max_retries=0)),
        (scripts.RETRY, tasks.fails.using(max_retries=1)),
        (scripts.BURY, tasks.fails.using(max_retries=0)),
    ):
        cut = Cut(script.sha.encode(), deliver=True)
        proxy.cut(cut)
        handle = task.delay(ledger.path, 1)
        wait_for(cut.hit.is_set)
        wait_for(lambda id=handle._id: get_broker().find([id])[0].outcome, 5)
        assert [outcome.id for outcome in outcomes()].count(handle._id) == 1
        assert losses_of(handle) == 0
        sent.append(handle)
    assert len(ledger.events()) == 1
    assert [line["attempt"] for line in ledger.read() if "event" not in line] == [1, 2, 1]
    assert "was no longer this worker's" not in process.output()
    done, retried, buried = [handle.id for handle in sent]
    for expected in (("task_succeeded", done), ("task_retried", retried), ("task_failed", buried)):
        wait_for(lambda expected=expected: told(ledger).count(expected), 5)
        assert told(ledger).count(expected) == 1
    assert process.output().count(f"{retried} attempt 1") == process.output().count(f"{buried} attempt 1") == 1


def told(ledger: Ledger) -> list[tuple[str, str]]:
    """The signals that were sent, each with the id of its task."""
    return [(line["event"], line["task_id"]) for line in ledger.read() if "task_id" in line]


@pytest.mark.slow
def test_connections_cut_again_and_again_lose_nothing(start: StartWorker, proxy: Proxy, ledger: Ledger) -> None:
    start("--threads", "4", taskq={"BROKER": f"redis://127.0.0.1:{proxy.port}/0"})
    handles = tasks.works.delay_many([((ledger.path, 0.02), {})] * 150)
    for _ in range(8):
        time.sleep(0.1)
        proxy.cut_all()
    for handle in handles:
        handle.get(timeout=10)
    assert len({outcome.id for outcome in outcomes()}) == len(outcomes()) == 150
    assert len(ledger.events()) == 150
