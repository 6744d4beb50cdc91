"""The outbox on PostgreSQL while everything around it dies: each task that was committed runs to one end, no other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.servers import ROOT, PostgresServer, Process, RedisServer, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartWorker

pytestmark = pytest.mark.services

SEED = int(os.environ.get("TASKQ_TEST_SEED", "1"))
SECONDS = float(os.environ.get("TASKQ_TEST_STORM", "20"))  # of faults


@pytest.fixture
def environment(postgres: PostgresServer, manage_env: dict[str, str]) -> dict[str, str]:
    env = {**manage_env, "DATABASE_URL": postgres.url}
    migrate = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env={**os.environ, **env}, check=True, timeout=60)
    execute(postgres, "TRUNCATE django_taskq_outboxentry, django_taskq_taskresult, django_taskq_deadtask")
    return env


@pytest.fixture
def write(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Starts a process that writes."""
    started: list[Process] = []

    def start() -> Process:
        number = len(started)
        command = [sys.executable, "-m", "tests.outbox.writer", str(SEED + number)]
        env = {**environment, "TASKQ_TEST_SETTINGS": "{}"}
        started.append(Process(command, tmp_path / f"writer-{number}.log", env))
        return started[-1]

    yield start
    for process in started:
        process.close(0)


def execute(postgres: PostgresServer, statement: str) -> list[tuple[str, ...]]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def said(directory: Path, word: str) -> set[str]:
    """The ids of which writers said so."""
    lines = [line.split() for path in directory.glob("writer-*.log") for line in path.read_text().splitlines()]
    return {id for first, *ids in filter(None, lines) if first == word for id in ids}


class Storm:
    """Two writers, two workers, and what may happen to them."""

    def __init__(self, write: Callable[[], Process], work: Callable[[], Process], redis: RedisServer) -> None:
        self.chance, self.write, self.work, self.redis = random.Random(SEED), write, work, redis
        self.writers, self.workers = [write(), write()], [work(), work()]

    def a_writer_dies(self) -> None:
        chosen = self.chance.randrange(2)
        self.writers[chosen].kill()
        self.writers[chosen] = self.write()

    def all_children_of_a_worker_die(self) -> None:
        """The relay is among them."""
        chosen = self.chance.choice(self.workers)
        for child in chosen.children() if chosen.alive else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def a_worker_dies(self) -> None:
        chosen = self.chance.randrange(2)
        self.workers[chosen].kill_tree()
        self.workers[chosen] = self.work()

    def a_worker_hangs(self) -> None:
        """For longer than its lease, perhaps."""
        chosen = self.chance.choice(self.workers)
        chosen.freeze()
        time.sleep(self.chance.uniform(0.5, 12))
        chosen.thaw()

    def redis_dies(self) -> None:
        self.redis.kill()
        time.sleep(self.chance.random())
        self.redis.start()

    def redis_hangs(self) -> None:
        self.redis.freeze()
        time.sleep(self.chance.uniform(0.5, 3))
        self.redis.thaw()

    def rage(self, faults: Sequence[Callable[[], None]]) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(self.chance.uniform(0.5, 2))
            self.chance.choice(faults)()
            self.writers = [writer if writer.alive else self.write() for writer in self.writers]
        for writer in self.writers:
            writer.kill()


def test_a_storm(
    worker: StartWorker, write: Callable[[], Process], environment: dict[str, str], postgres: PostgresServer,
    redis_server: RedisServer, tmp_path: Path,
) -> None:  # fmt: skip
    def work() -> Process:
        return worker("--threads", "2", tasks=["tests.outbox.tasks"], env=environment, wait=False)

    def every_connection_ends() -> None:
        ours = "pid <> pg_backend_pid() AND datname = 'taskq'"
        execute(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")

    def is_empty() -> bool:
        with redis_server.client() as client:
            on_their_way = client.hlen("{taskq}:index") - client.xlen("{taskq}:outcomes")
        return not on_their_way and not execute(postgres, "SELECT 1 FROM django_taskq_outboxentry LIMIT 1")

    storm = Storm(write, work, redis_server)
    wait_for(lambda: len(said(tmp_path, "committed")) > 10, 20)
    storm.rage([
        storm.a_writer_dies, storm.all_children_of_a_worker_die, storm.a_worker_dies, storm.a_worker_hangs,
        storm.redis_dies, storm.redis_hangs, every_connection_ends,
    ])  # fmt: skip
    wait_for(is_empty, 60, lambda: "\n".join(process.output()[-2000:] for process in storm.workers))
    begun, undone, committed = (said(tmp_path, word) for word in ("begun", "undone", "committed"))
    wait_for(lambda: committed <= rows(postgres), 30)
    ended = rows(postgres)
    assert not ended & undone
    # Of the last transaction of a writer that was killed only the database knows whether it was committed.
    assert ended <= begun
    assert execute(postgres, "SELECT DISTINCT status, run FROM django_taskq_taskresult") == [("succeeded", 1)]
    with redis_server.client() as client:
        assert int(client.hget("{taskq}:totals", "default:succeeded") or 0) == len(ended)
    print(f"{len(committed)} committed, {len(undone)} rolled back, {len(ended)} ended, each once")


def rows(postgres: PostgresServer) -> set[str]:
    return {str(id) for (id,) in execute(postgres, "SELECT id FROM django_taskq_taskresult")}
