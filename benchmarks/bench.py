"""What every benchmark stands on: a server, a database file, real workers, the floor, and the account at the end."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import redis

from benchmarks import account, processes
from benchmarks.payload import EMAIL
from benchmarks.tasks import email
from django_taskq.broker import get_broker
from django_taskq.broker.keys import Keys
from django_taskq.handle import TaskHandle
from django_taskq.models import DeadTask, TaskResult
from tests.servers import Process, RedisServer, WorkerProcess

STALLED = 60.0  # seconds without progress before a benchmark gives up
CALLS = 10_000  # calls of one delay_many
GLANCE = 0.01  # seconds between two looks at the queue: looking costs little, and nothing is timed more finely


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 5
    tasks: int = 100_000
    samples: int = 1_000  # of latency
    rest: float = 20.0  # seconds a worker is watched doing nothing
    long: bool = False


def fill(count: int) -> list[TaskHandle[Any]]:
    """Sends so many e-mails that do nothing."""
    handles: list[TaskHandle[Any]] = []
    for first in range(0, count, CALLS):
        handles += email.delay_many([((), EMAIL)] * min(CALLS, count - first))
    return handles


class BenchmarkFailed(Exception):
    """Tasks are missing, ran twice or got stuck. The figures of such a run mean nothing."""


class Bench:
    """One run of benchmarks. `reset` before each measurement; nothing of the one before is left then."""

    def __init__(self, server: RedisServer, directory: Path, say: Callable[[str], None]) -> None:
        self.server, self.directory, self.say = server, directory, say
        self.broker = get_broker()
        self.keys: Keys = self.broker.keys
        self.lane = self.keys.lane("default", 0)
        self.client = redis.Redis(port=server.port, protocol=2, socket_timeout=60)
        self.database = directory / "run.sqlite3"
        self._workers = 0

    # --- before -------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """An empty server and an empty database."""
        self.client.flushall()
        for suffix in ("-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        shutil.copy(self.directory / "empty.sqlite3", self.database)

    def floor(self, command: str, *numbers: int) -> dict[str, Any]:
        """One measurement of the floor, on the same server, in processes of its own."""
        self.client.flushall()
        log = self.directory / "floor.log"
        log.unlink(missing_ok=True)
        arguments = ["-m", "benchmarks.floor", str(self.server.port), command, *map(str, numbers)]
        process = Process([sys.executable, *arguments], log)
        try:
            if process.popen.wait(600):
                raise BenchmarkFailed(f"the floor failed:\n{process.output()}")
        except subprocess.TimeoutExpired:
            raise BenchmarkFailed("the floor does not end") from None
        finally:
            process.close()
        return cast("dict[str, Any]", json.loads(process.output()))

    @contextlib.contextmanager
    def worker(self, *options: str, ready: bool = False) -> Iterator[Worker]:
        """A running `manage.py taskq_worker`; `ready`: once all of it has started and come to rest."""
        self._workers += 1
        log = self.directory / f"worker-{self._workers}.log"
        process = WorkerProcess(options, log, {}, self._registered)
        try:
            if ready:
                process.wait_until_ready()
                time.sleep(1.5)
            yield Worker(self, process)
        finally:
            process.close(30)

    def _registered(self) -> list[str]:
        return [worker.decode() for worker in cast("list[bytes]", self.client.zrange(self.keys.workers, 0, -1))]

    # --- meanwhile ----------------------------------------------------------------------------------------------------

    def redis_cpu(self) -> float:
        """CPU seconds the server has used so far."""
        spent = self.client.info("cpu")
        return float(spent["used_cpu_user"] + spent["used_cpu_sys"])

    def memory(self) -> int:
        """Bytes the server has in use."""
        return int(self.client.info("memory")["used_memory"])

    def queued(self) -> int:
        """Messages in the lane, those that workers hold included."""
        return int(self.client.xlen(self.lane))

    def lag(self) -> int:
        """Outcomes that are not rows yet."""
        return self.broker.recorder_lag()

    def scheduled(self) -> int:
        """Tasks that are not due yet, or not promoted."""
        return int(self.client.zcard(self.keys.queue("default").scheduled))

    # --- after --------------------------------------------------------------------------------------------------------

    def rows(self, columns: str = "id", model: type[TaskResult | DeadTask] = TaskResult) -> list[tuple[Any, ...]]:
        """Every recorded result, or dead letter."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(f"SELECT {columns} FROM {model._meta.db_table}").fetchall()

    def account_for(self, handles: Iterable[TaskHandle[Any]]) -> None:
        """Every task that was sent has one row, succeeded at its first attempt. BenchmarkFailed otherwise."""
        sent = {handle.id.replace("-", "") for handle in handles}
        if found := account.discrepancies(sent, self.rows(account.COLUMNS), len(self.rows(model=DeadTask))):
            raise BenchmarkFailed(f"of {len(sent)} tasks {', '.join(found)}")


class Worker:
    """A running worker, and what it costs."""

    def __init__(self, bench: Bench, process: WorkerProcess) -> None:
        self.bench, self.process = bench, process

    def wait(self, condition: Callable[[], bool], progress: Callable[[], object], glance: float = GLANCE) -> float:
        """The moment (perf_counter seconds) a condition holds; BenchmarkFailed when nothing moves any more."""
        seen, since = progress(), time.perf_counter()
        while not condition():
            if not self.process.alive:
                raise BenchmarkFailed(f"the worker ended:\n{self.process.output()[-4000:]}")
            now = time.perf_counter()
            if (latest := progress()) != seen:
                seen, since = latest, now
            elif now - since > STALLED:
                raise BenchmarkFailed(f"no progress for {STALLED:.0f} s at {seen}:\n{self.process.output()[-4000:]}")
            time.sleep(glance)
        return time.perf_counter()

    def until_queued(self, most: int, glance: float = GLANCE) -> float:
        """The moment at most so many messages are left."""
        return self.wait(lambda: self.bench.queued() <= most, self.bench.queued, glance)

    def until_nothing_is_scheduled(self) -> float:
        """The moment the last scheduled task has come to its queue."""
        return self.wait(lambda: self.bench.scheduled() == 0, time.time)

    def until_recorded(self) -> float:
        """The moment every outcome is a row."""
        return self.wait(lambda: self.bench.lag() == 0, self.bench.lag)

    def task_processes(self) -> list[int]:
        """Process ids of the children that run tasks."""
        keys, client = self.bench.keys, self.bench.client
        pids = [client.hget(keys.worker(worker), "pid") for worker in self.process.ids]
        return [int(cast("bytes", pid)) for pid in pids if pid]

    def cpu(self) -> Cpu:
        """What has been used so far."""
        spent = [processes.cpu_of(pid) for pid in self.task_processes()]
        known = [seconds for seconds in spent if seconds is not None]
        tasks = sum(known) if len(known) == len(spent) else None
        group = processes.cpu_of_group(self.process.pid)
        return Cpu(self.bench.redis_cpu(), tasks, None if group is None or tasks is None else group - tasks)


class Cpu(NamedTuple):
    """CPU seconds; None where this machine cannot tell."""

    redis: float
    tasks: float | None  # of the processes that run tasks
    rest: float | None  # of supervisor and recorder

    def each(self, since: Cpu, count: int) -> EachCpu:
        """Microseconds for each of `count` tasks."""
        return EachCpu(
            *(None if a is None or b is None else 1e6 * (a - b) / count for a, b in zip(self, since, strict=True))
        )


class EachCpu(NamedTuple):
    """As Cpu, in microseconds a task."""

    redis: float | None
    tasks: float | None
    rest: float | None
