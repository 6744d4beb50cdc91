"""`running` is a worker that the tests of a module share; `ledger` is what tasks wrote down about themselves.

Tests that break things start workers of their own with `worker(..., tasks=TASKS)`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask, TaskResult
from tests.conftest import database_url
from tests.servers import ROOT, RedisServer, WorkerProcess, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper
    from pytest_django.plugin import DjangoDbBlocker

    from tests.conftest import StartWorker

TASKS = ["tests.worker.tasks"]
QUEUES: dict[str, dict[str, Any]] = {"default": {}, "mail": {}, "slow": {}}


class Ledger:
    """A file that tasks write to: what ran is known without asking the queue."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.gate = f"{path}-gate"  # `holds` runs until it exists

    def open_gate(self) -> None:
        Path(self.gate).touch()

    def close_gate(self) -> None:
        Path(self.gate).unlink()

    def read(self) -> list[dict[str, Any]]:
        path = Path(self.path)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, event: str = "start") -> list[dict[str, Any]]:
        return [line for line in self.read() if line.get("event") == event]

    def wait(self, count: int = 1, event: str = "start", timeout: float = 10) -> list[dict[str, Any]]:
        """Lines of that event, when there are so many."""
        wait_for(lambda: len(self.events(event)) >= count, timeout, lambda: f"{count} {event}: {self.read()}")
        return self.events(event)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def start(worker: StartWorker, settings: SettingsWrapper) -> StartWorker:
    """`worker`, with the tasks and the queues of these tests."""
    settings.TASKQ = {**settings.TASKQ, "QUEUES": QUEUES}

    def start_one(*arguments: str, **options: Any) -> WorkerProcess:
        return worker(*arguments, **{"tasks": TASKS, **options})

    return start_one


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("shared-redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def shared_settings(shared_redis: RedisServer) -> dict[str, Any]:
    return {**django_settings.TASKQ, "BROKER": shared_redis.url, "QUEUES": QUEUES}


@pytest.fixture(scope="module")
def shared_worker(
    shared_redis: RedisServer,
    shared_settings: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[WorkerProcess]:
    directory = tmp_path_factory.mktemp("shared-worker")

    def registered() -> list[str]:
        with shared_redis.client(decode_responses=True) as client:
            return list(client.zrange("{taskq}:workers", 0, -1))

    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "REDIS_URL": shared_redis.url,
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(directory),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TASKQ_TEST_SETTINGS": json.dumps(shared_settings),
        "TASKQ_TEST_TASKS": ",".join(TASKS),
    }
    process = WorkerProcess([], directory / "worker.log", environment, registered)
    process.wait_until_ready()
    yield process
    process.close()
    with django_db_blocker.unblock():  # its records are not rolled back with any test
        TaskResult.objects.all().delete()
        DeadTask.objects.all().delete()


@pytest.fixture
def running(shared_worker: WorkerProcess, shared_settings: dict[str, Any], settings: SettingsWrapper) -> WorkerProcess:
    """A worker with eight threads that serves this test and its neighbours in the module."""
    settings.TASKQ = shared_settings
    return shared_worker


def eventually(condition: Callable[[], Any], timeout: float = 10) -> None:
    """Asserts `condition` until it holds: for what a worker does after the test can see that a task ended."""

    def holds() -> bool:
        try:
            return bool(condition())
        except AssertionError:
            return False

    wait_for(holds, timeout, condition)


def traces(*, sleepers: bool = True) -> list[str]:
    """What workers have left in Redis about themselves: register, hashes, inboxes, sleepers, consumers.

    A worker that was killed in its sleep stays among the sleepers for some seconds, until its lease is over.
    """
    broker = get_broker()
    found = []
    for name in sorted(broker.connections.execute("KEYS", "*")):
        key = name.decode()
        kind = key.removeprefix(broker.keys.tag).split(":")[1]
        if kind in {"workers", "worker", "inbox", "cancels"} or (kind == "sleepers" and sleepers):
            found.append(key)
        elif kind == "queue":
            for consumer in broker.connections.execute("XINFO", "CONSUMERS", key, "workers"):
                fields = dict(zip(consumer[::2], consumer[1::2], strict=True))
                if fields[b"name"] != b"returned":
                    found.append(f"{key} {fields[b'name'].decode()} {fields[b'pending']}")
    return found


def outcomes() -> list[Outcome]:
    """Every outcome that Redis still has, the oldest first."""
    get_broker().connections.close()  # Redis may have been restarted
    return [outcome for _, outcome in get_broker().read_outcomes("0-0", 100_000) if outcome is not None]


def losses_of(handle: TaskHandle[Any]) -> int:
    """How many workers a task that has ended cost."""
    outcome = get_broker().find([handle._id])[0].outcome
    assert outcome is not None
    return outcome.losses


def group_members(group: int) -> list[int]:
    """Processes of a process group that are not zombies (Linux only)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(status.parent.name))
    return sorted(found)


def task_processes(process: WorkerProcess) -> list[int]:
    """Process ids of a worker's registered task processes, not of its maintenance process."""
    broker = get_broker()
    pids = [broker.connections.execute("HGET", broker.keys.worker(worker), "pid") for worker in process.ids]
    return sorted(int(pid) for pid in pids if pid)


def maintenance_process(process: WorkerProcess) -> int:
    """Its process id: the child of the supervisor that is no task process."""
    return next(pid for pid in process.children() if pid not in task_processes(process))
