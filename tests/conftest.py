"""Fixtures: a real Redis-protocol server, a broker on it, worker processes, databases. How to use them:

    def test_something(broker):                      # django_taskq's Broker on an empty server; TASKQ points there
    def test_raw(redis_server):                      # .client(), .url, .tcp_url, .socket, .flush(), .stop(), .start(),
                                                     # .kill(), .restart(), .freeze(), .thaw(); see tests/servers.py
    def test_end_to_end(worker):                     # starts `manage.py taskq_worker` on that server and on a SQLite
        process = worker("--threads", "2")           # file that this process sees too; waits until it is ready
        handle = add.delay(1, 2)
        assert handle.get(timeout=5) == 3
        process.terminate()                          # .kill(), .kill_tree(), .freeze(), .output(), .wait(), .children()

A worker gets this process's TASKQ (JSON values only); `worker(..., taskq={"OUTCOME_WINDOW": 15})` changes it there.
`tasks=["tests.worker.my_tasks"]` has it import more tasks than tests/sampleapp/tasks.py, `env={...}` adds to its
environment, `wait=False` returns at once. Whatever a test leaves running is ended after it. A worker is forked from a
process that has imported Django already (tests/forkserver.py), unless `env` has a PYTHONPATH. A test that sets TASKQ
itself starts from what the fixtures put there: `settings.TASKQ = {**settings.TASKQ, "RECORD": "failures"}`.

TASKQ_TEST_SERVER=redis-server runs everything on another server, DATABASE_URL on another database.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest

from tests import servers
from tests.servers import REAPER, ROOT, PostgresServer, RedisServer, WorkerProcess, temporary_directory

if TYPE_CHECKING:
    from pytest_django import Settings

    from django_taskq.broker import Broker


# A machine that does other things besides is slow at times, which says nothing about an example.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
    """Where a shell has started the tests with `&`, all that they start would be deaf to Ctrl-C, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    servers.FORK_SERVER.close()
    left = [group for group in REAPER.groups if servers.group_alive(group)]
    REAPER.close()
    if left:
        pytest.exit(f"process groups left running (now killed): {left}", returncode=1)


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the whole run. Tests use `redis_server`, which hands it over empty."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """The run's server, empty and running, whatever the test before did to it."""
    redis_process.reset()
    return redis_process


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """A factory of further servers: start_redis(config={"maxmemory": "8mb"}, binary="redis-server")."""
    started: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:
        directory = tmp_path / f"redis-{len(started)}"
        directory.mkdir()
        server = RedisServer(directory, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture
def taskq_settings(redis_server: RedisServer, settings: Settings) -> Settings:
    """Django's settings with TASKQ["BROKER"] at the run's server."""
    settings.TASKQ = {**settings.TASKQ, "BROKER": redis_server.url}
    return settings


@pytest.fixture
def broker(taskq_settings: Settings) -> Broker:
    """This process's broker, on an empty server."""
    from django_taskq.broker import get_broker

    return get_broker()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite in a file instead of in memory: worker processes open it too. Elsewhere a database for each of xdist's."""
    from django.db import connections

    connection = connections["default"]
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


def database_url() -> str:
    """The test database of this process as DATABASE_URL, for its children."""
    from django.db import connections

    values = connections["default"].settings_dict
    if connections["default"].vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    scheme = connections["default"].vendor
    return f"{scheme}://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}"


class StartWorker(Protocol):
    def __call__(
        self,
        *arguments: str,
        taskq: dict[str, Any] | None = None,
        tasks: list[str] | None = None,
        env: dict[str, str] | None = None,
        wait: bool = True,
    ) -> WorkerProcess: ...


@pytest.fixture
def manage_env(taskq_settings: Settings, transactional_db: None, tmp_path: Path) -> dict[str, str]:
    """The environment in which `manage.py` sees this test's broker and database."""
    url = taskq_settings.TASKQ["BROKER"]
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "REDIS_URL": url,
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def worker(
    manage_env: dict[str, str], taskq_settings: Settings, redis_server: RedisServer, tmp_path: Path
) -> Iterator[StartWorker]:
    """Starts workers; see the top of this file."""
    from django_taskq.broker.keys import Keys

    started: list[WorkerProcess] = []

    def registered() -> list[str]:
        with redis_server.client(decode_responses=True) as client:
            return list(client.zrange(Keys(taskq_settings.TASKQ.get("NAMESPACE", "taskq")).workers, 0, -1))

    def start(
        *arguments: str,
        taskq: dict[str, Any] | None = None,
        tasks: list[str] | None = None,
        env: dict[str, str] | None = None,
        wait: bool = True,
    ) -> WorkerProcess:
        environment = {
            **manage_env,
            "TASKQ_TEST_SETTINGS": json.dumps({**taskq_settings.TASKQ, **(taskq or {})}),
            "TASKQ_TEST_TASKS": ",".join(tasks or []),
            **(env or {}),
        }
        log = tmp_path / f"worker-{len(started)}.log"
        process = WorkerProcess(arguments, log, environment, registered)
        started.append(process)
        if wait:
            process.wait_until_ready(
                int(arguments[arguments.index("--processes") + 1]) if "--processes" in arguments else 1
            )
        return process

    yield start
    for process in started:
        process.close()
    for process in started:
        # pytest shows this beside a failure only.
        print(f"--- {' '.join(process.command[1:])} (exit {process.popen.returncode})\n{process.output()}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL cluster of the run's own, for tests marked `services`."""
    with temporary_directory("taskq-postgres-") as directory:
        server = PostgresServer(directory / "cluster")
        server.start()
        yield server
        server.close()
