"""taskq_health: what a container's health check and Kubernetes' probes ask."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandError

from django_taskq.broker import Broker
from django_taskq.broker.workers import Beat, Workers
from tests.commands.conftest import Manage, run
from tests.sampleapp.tasks import add
from tests.servers import RedisServer

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workers(broker: Broker) -> Workers:
    return Workers(broker.connections, broker.keys)


def register(workers: Workers, name: str = "w", host: str = "", supervisor: int = 1, *, beat: bool = True) -> None:
    fields = {"host": host or socket.gethostname(), "supervisor": supervisor, "started": int(time.time())}
    workers.register(name, fields)
    if beat:
        workers.beat([Beat(name, {"state": "running"})])


def test_ready_when_redis_and_database_answer(broker: Broker) -> None:
    result = run("taskq_health")
    assert result.code == 0
    assert result.out.splitlines() == [
        "ok      redis: Redis answers",
        "ok      database: the database 'default' answers",
    ]


def test_not_ready_without_redis(redis_server: RedisServer, broker: Broker) -> None:
    redis_server.kill()
    result = run("taskq_health", "--ready", "--json")
    assert result.code == 3
    assert not result.json["healthy"]
    assert [check["verdict"] for check in result.json["checks"]] == ["unknown", "ok"]
    assert "cannot be reached" in result.json["checks"][0]["text"]


def test_a_redis_that_does_not_answer_is_not_waited_for(redis_server: RedisServer, broker: Broker) -> None:
    redis_server.freeze()
    began = time.monotonic()
    assert run("taskq_health", "--ready", "--timeout", "0.3").code == 3
    assert time.monotonic() - began < 2


def test_not_ready_without_the_database(broker: Broker, manage: Manage) -> None:
    manage.env["DATABASE_URL"] = "sqlite:////nowhere/at/all"
    result = manage("taskq_health")
    assert result.code == 3
    assert "unknown database: the database 'default' cannot be used" in result.out
    assert result.err == ""


def test_live_while_a_worker_of_this_machine_beats(workers: Workers) -> None:
    assert run("taskq_health", "--live").code == 1
    register(workers, "theirs", host="elsewhere")
    result = run("taskq_health", "--live")
    assert (result.code, result.out.strip()) == (1, f"bad     live: no worker of {socket.gethostname()} is registered")
    register(workers, "ours", supervisor=4711)
    assert run("taskq_health", "--live").code == 0
    assert run("taskq_health", "--live", "--pid", "4711").code == 0
    assert run("taskq_health", "--live", "--pid", "4712").code == 1


def test_not_live_when_the_beats_have_stopped(workers: Workers, redis_server: RedisServer) -> None:
    register(workers)
    with redis_server.client() as client:
        client.hset("{taskq}:worker:w", "beat", int(time.time()) - 20)
    result = run("taskq_health", "--live")
    assert result.code == 1
    assert "has beaten for 15 s" in result.out
    register(workers, "replacement")
    workers.declare_dead("w", None, [])
    assert run("taskq_health", "--live").code == 0
    workers.declare_dead("replacement", None, [])
    assert run("taskq_health", "--live").code == 1


def test_a_worker_is_live_while_redis_is_away(redis_server: RedisServer, broker: Broker) -> None:
    redis_server.kill()
    result = run("taskq_health", "--live")
    assert result.code == 0
    assert "Redis is away" in result.out
    assert run("taskq_health", "--live", "--ready").code == 3


def test_depth_and_age_have_limits(broker: Broker, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    assert run("taskq_health", "--max-depth", "mail=0", "--max-age", "0").code == 0
    add.using(queue_name="mail").delay_many([((1, 2), {})] * 3)
    add.using(queue_name="mail", run_after=60).delay(1, 2)
    time.sleep(0.02)
    assert run("taskq_health", "--max-depth", "mail=3", "--max-depth", "default=0", "--max-age", "60").code == 0
    result = run("taskq_health", "--max-depth", "mail=2", "--max-depth", "default=0")
    assert (result.code, result.out.splitlines()[1]) == (1, "bad     depth mail: 3 tasks are ready in mail, 2 may be")
    result = run("taskq_health", "--max-age", "0.01")
    assert result.code == 1
    assert "in mail, has waited" in result.out


def test_limits_cannot_be_judged_without_redis(redis_server: RedisServer, broker: Broker) -> None:
    redis_server.kill()
    assert run("taskq_health", "--max-age", "10").code == 3


def test_wrong_options_are_told_from_bad_health(broker: Broker) -> None:
    with pytest.raises(CommandError, match="'male' is not declared") as refused:
        run("taskq_health", "--max-depth", "male=3")
    assert refused.value.returncode == 2
    for words in (("--max-depth", "mail"), ("--max-depth", "mail=-1"), ("--max-age", "soon")):
        with pytest.raises(CommandError):
            run("taskq_health", *words)
