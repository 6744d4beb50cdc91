"""What Redis may answer for a while: a worker keeps what it runs and has run, and goes on when that is over."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import redis

from django_taskq.broker import get_broker
from tests.conftest import StartWorker
from tests.servers import RedisServer
from tests.worker import tasks
from tests.worker.conftest import Ledger, losses_of, outcomes, traces

AWHILE = 0.6  # seconds


@contextmanager
def readonly(server: RedisServer) -> Iterator[None]:
    """As after a failover."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Somebody's script runs for too long."""
    now = "local function now() local time = redis.call('TIME') return time[1] + time[2] / 1e6 end"

    def run() -> None:
        with server.client() as client, contextlib.suppress(redis.RedisError):
            client.eval(f"{now} local ends = now() + 0.8 while now() < ends do end", 0)

    with server.client() as client:
        client.config_set("busy-reply-threshold", 20)
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.1)
    yield
    thread.join()


@contextmanager
def killing_clients(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        for _ in range(4):
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.script_flush()
            time.sleep(0.1)
        yield


@contextmanager
def hanging(server: RedisServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def paused_writes(server: RedisServer) -> Iterator[None]:
    """As in a planned failover."""
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", "800", "WRITE")
        yield


FAULTS: dict[str, Callable[[RedisServer], AbstractContextManager[None]]] = {
    "READONLY": readonly,
    "BUSY": busy,
    "CLIENT KILL": killing_clients,
    "SIGSTOP": hanging,
    "CLIENT PAUSE": paused_writes,
}


def test_whatever_redis_answers_for_a_while_nothing_runs_twice(
    start: StartWorker, redis_server: RedisServer, ledger: Ledger
) -> None:
    process = start("--threads", "2")
    (worker,) = process.ids
    handles = []
    for name, fault in FAULTS.items():
        running = [task.delay(ledger.path, ledger.gate, name) for task in (tasks.holds, tasks.holds_async)]
        retried = tasks.fails.using(max_retries=1).delay(ledger.path, 1)
        ledger.wait(len(handles) + 2)
        with fault(redis_server):
            ledger.open_gate()  # what ended meanwhile is settled afterwards
            time.sleep(AWHILE)
        get_broker().connections.close()
        waiting = tasks.works.delay(ledger.path, 0, name)
        for handle in (*running, waiting, retried):
            handle.get(timeout=8)
            assert (name, losses_of(handle)) == (name, 0)
        ledger.close_gate()
        handles += [*running, waiting]
    assert len(ledger.events()) == len(handles)
    assert len({outcome.id for outcome in outcomes()}) == len(outcomes()) == len(handles) + len(FAULTS)
    assert process.ids == [worker]
    assert "counts as dead" not in process.output()
    assert process.terminate() == 0
    assert traces() == []
