"""The users of docs/deployment.md on Debian's redis-server: they can do what they must, and have nothing to spare."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from django_taskq import BrokerRefused
from django_taskq.broker import Broker, get_broker, scripts
from django_taskq.broker.health import problems_of
from django_taskq.broker.inspector import Inspector
from django_taskq.exceptions import RateLimited, TaskFailed
from django_taskq.metrics.cluster import Cluster
from django_taskq.models import DeadTask
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import send as send_limited
from tests.commands.conftest import run
from tests.metrics.scrape import collected, port_of, scrape
from tests.outbox import tasks as outbox_tasks
from tests.sampleapp.tasks import add, async_sleep, fail, sleep
from tests.servers import ROOT, RedisServer, wait_for
from tests.worker import batch_tasks, limited
from tests.worker import tasks as worker_tasks

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

pytestmark = pytest.mark.services

PRODUCER, WORKER, ADMIN = "shop-web", "shop-worker", "shop-admin"
RULES = re.findall(r"^```acl\n(.*?)^```$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE | re.DOTALL)
OF_PRODUCERS = {scripts.ENQUEUE, scripts.BREAKER, scripts.DISPLACE, scripts.FIND, scripts.CANCEL, scripts.WITHDRAW}
OF_ADMINS = {scripts.RESUME, scripts.RESUME_TASK, scripts.REQUEUE, scripts.CONTROL}
SCRIPTS = {
    PRODUCER: OF_PRODUCERS,
    WORKER: {script for script in scripts.ALL if script not in OF_ADMINS},
    ADMIN: OF_PRODUCERS | OF_ADMINS | {scripts.INSPECT},
}
CONNECTION = {"client|setname", "select", "evalsha", "script|load"}
PLAIN = {  # what Python calls without a script
    PRODUCER: {"subscribe", "time", "hmget"},
    WORKER: {
        "subscribe",
        "time",
        "info",
        "client|id",
        "client|unblock",
        "blpop",
        "expire",
        "hget",
        "hmget",
        "hset",
        "smembers",
        "sscan",
        "xack",
        "xlen",
        "xrange",
        "zrange",
    },
    ADMIN: {
        "subscribe",
        "time",
        "info",
        "hget",
        "hgetall",
        "hmget",
        "hscan",
        "sadd",
        "smembers",
        "sscan",
        "xlen",
        "xrange",
        "zrange",
        "zrevrangebyscore",
    },
}


def commands_of(script: scripts.Script) -> set[str]:
    """What a script may call."""
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, '([A-Z]+)')?", script.source)
    return {f"{name}|{more}".lower() if name in ("XGROUP", "XINFO") else name.lower() for name, more in calls}


def granted(user: str) -> set[str]:
    [rules] = [block for block in RULES if f"SETUSER {user} reset" in block]
    return {word[1:] for word in rules.split() if word.startswith("+")}


@pytest.mark.parametrize("user", [PRODUCER, WORKER, ADMIN])
def test_no_user_has_more_commands_than_its_scripts_and_calls_need(user: str) -> None:
    needed = CONNECTION | PLAIN[user] | {name for script in SCRIPTS[user] for name in commands_of(script)}
    assert granted(user) == needed


@pytest.fixture
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server with these users; the default user is the test's own."""
    server = start_redis(binary="redis-server", config={"databases": "4"})
    with server.client() as client:
        for rules in RULES:
            client.execute_command(*rules.split())
        client.execute_command("ACL", "LOG", "RESET")
    return server


@pytest.fixture
def as_user(server: RedisServer, settings: SettingsWrapper) -> Callable[[str], Broker]:
    """This process is that user from now on."""

    def become(user: str) -> Broker:
        settings.TASKQ = {**settings.TASKQ, **broker_of(server, user)}
        return get_broker()

    return become


def broker_of(server: RedisServer, user: str) -> dict[str, Any]:
    return {"BROKER": server.tcp_url, "BROKER_USER": user, "BROKER_PASSWORD": "its-password", "BROKER_DB": 1}


@pytest.fixture
def as_worker(server: RedisServer, worker: StartWorker) -> StartWorker:
    def start(*words: str, **options: Any) -> Any:
        process = worker(*words, taskq=broker_of(server, WORKER), wait=False, **options)
        wait_for(lambda: workers_of(server) or not process.alive, 20, process.output)
        return process

    return start


def task_process_of(server: RedisServer) -> int:
    [worker] = workers_of(server)
    with server.client(db=1) as client:
        return int(client.hget(f"{{taskq}}:worker:{worker.decode()}", "pid"))


def workers_of(server: RedisServer) -> list[bytes]:
    with server.client(db=1) as client:
        return list(client.zrange("{taskq}:workers", 0, -1))


@pytest.fixture
def refusals(server: RedisServer) -> Callable[[], list[dict[str, str]]]:
    """What the server refused so far."""

    def log() -> list[dict[str, str]]:
        with server.client(decode_responses=True) as client:
            entries = client.acl_log()
        return [{key: entry[key] for key in ("username", "reason", "object")} for entry in entries]

    return log


def test_all_that_producers_and_workers_do(
    server: RedisServer,
    as_user: Callable[[str], Broker],
    as_worker: StartWorker,
    refusals: Callable[[], list[dict[str, str]]],
) -> None:
    as_user(PRODUCER)
    later = add.using(run_after=0.5, priority=7).delay(1, 2)
    once = add.using(idempotency_key="k").delay(1, 2)
    assert add.using(idempotency_key="k").delay(1, 2).created is False
    waiting = add.using(run_after=3600).delay(1, 2)
    assert waiting.cancel() is True
    assert outbox_tasks.add.delay(1).cancel() is True
    process = as_worker("--threads", "2", "--metrics-port", "0", tasks=["tests.outbox.tasks"])
    assert [handle.get(timeout=10) for handle in (later, once)] == [3, 3]
    assert outbox_tasks.add.delay(1).get(timeout=10) == 2
    assert [handle.get(timeout=10) for handle in add.delay_many([((n, n), {}) for n in range(600)])][-1] == 1198
    assert async_sleep.delay(0.01).get(timeout=10) == 0.01
    with pytest.raises(TaskFailed):
        fail.delay().get(timeout=10)
    with pytest.raises(TaskFailed):
        fail.using(max_retries=1).delay().get(timeout=10)

    running = async_sleep.delay(30)
    wait_for(lambda: running.refresh() or running.status == "running")
    assert running.cancel() is False
    with pytest.raises(TaskFailed, match="cancelled"):
        running.get(timeout=10)

    lost = sleep.delay(1)  # its process dies: declared dead, reclaimed, forgotten, run again
    wait_for(lambda: lost.refresh() or lost.status == "running")
    os.kill(task_process_of(server), signal.SIGKILL)
    assert lost.get(timeout=20) == 1.0
    wait_for(lambda: len(workers_of(server)) == 1, 20)
    assert scrape(port_of(process)).values("taskq_queue_oldest_age_seconds", queue="default") == [0.0]
    assert refusals() == []
    assert process.terminate() == 0
    assert refusals() == []


def test_all_that_limits_fair_shares_batches_and_periodic_tasks_do(
    server: RedisServer,
    as_user: Callable[[str], Broker],
    as_worker: StartWorker,
    refusals: Callable[[], list[dict[str, str]]],
    settings: SettingsWrapper,
    tmp_path: Path,
) -> None:
    ledger, ticks = str(tmp_path / "ledger"), tmp_path / "ticks"
    queues = {"default": {}, "small": {"max_length": 2, "overflow": "drop_oldest"}}
    settings.TASKQ = {**settings.TASKQ, "QUEUES": queues}
    as_user(PRODUCER)
    dropped = [add.using(queue_name="small", run_after=3600).delay(1, 2) for _ in range(3)]
    assert dropped[-1].cancel()
    process = as_worker(
        "--threads", "4", "--queues", "default:3,small:1",
        tasks=["tests.worker.limited", "tests.worker.tasks", "tests.worker.batch_tasks", "tests.periodic.ticking"],
        env={"TICKS": str(ticks)},
    )  # fmt: skip
    held = [limited.one_of_few.delay(ledger, "a", number) for number in range(8)]
    held += [limited.all_at_once.delay(ledger, number, number % 2) for number in range(4)]
    newest = [limited.newest.delay(ledger, "b", number, 0.2) for number in range(3)]
    for number in range(30):
        worker_tasks.of_tenant.delay(ledger, f"t{number % 3}", number)
    for _ in range(2):
        limited.rarely.delay(1)
    with pytest.raises(RateLimited):
        limited.rarely.delay(1)
    for _ in range(3):
        limited.guarded.delay(ledger)
    batch = batch_tasks.at_most_two.delay_many(
        [((batch_tasks.Step(ledger, str(number % 3)),), {}) for number in range(20)]
    )
    for handle in (*held, *batch, newest[-1]):
        handle.get(timeout=20)
    wait_for(lambda: ticks.exists() and len(ticks.read_text().splitlines()) >= 2, 20)
    admin = Inspector(as_user(ADMIN))
    admin.pause_task(add.name)
    blocked = [add.delay(1, number) for number in range(3)]
    wait_for(lambda: admin.queues(["default"])[0].blocked == 3)
    assert blocked[0].cancel()
    assert admin.paused_tasks() == [add.name]
    assert run("taskq_status").code == run("taskq_periodic", "list").code == 0
    admin.resume_task(add.name)
    assert blocked[1].get(timeout=10) == 2
    assert process.terminate() == 0
    assert refusals() == []


def test_all_that_the_admin_and_the_commands_do(
    server: RedisServer,
    as_user: Callable[[str], Broker],
    as_worker: StartWorker,
    refusals: Callable[[], list[dict[str, str]]],
) -> None:
    broker = as_user(ADMIN)
    assert problems_of(broker.connections) == []
    run("taskq_queue", "pause", "default")
    for delay in (None, 3600):
        add.using(run_after=delay).delay(1, 2)
    assert run("taskq_encryption", "usage").code == 0
    run("taskq_queue", "purge", "default", "--yes")
    run("taskq_queue", "resume", "default")
    process = as_worker()
    handle = fail.delay()
    wait_for(lambda: DeadTask.objects.filter(task_id=handle.id).exists(), 10, process.output)
    assert run("taskq_dead", "requeue", handle.id, "--yes").code == 0
    wait_for(lambda: DeadTask.objects.filter(task_id=handle.id, run=2).exists(), 10, process.output)
    sleep.delay(2)
    wait_for(lambda: [task for worker in Inspector(broker).workers() for task in worker.running])
    assert run("taskq_status").code == 0
    assert run("taskq_health", "--ready", "--live", "--max-age", "60").code == 0
    assert Inspector(broker).totals()["default:failed"] == 2
    found = run("taskq_bench", "--tasks", "50", "--yes", "--json").json
    assert found["ok"]
    assert found["bytes_per_task"] > 100
    assert refusals() == []


def test_a_producer_cancels_what_has_a_place_for_which_others_wait(
    as_user: Callable[[str], Broker], refusals: Callable[[], list[dict[str, str]]]
) -> None:
    shard = Shard(as_user(WORKER))
    hand = Hand(shard)
    ids = send_limited(shard, 4)
    first = hand.claim()
    assert hand.claim() == []  # the others are blocked
    hand.settle_all(first)  # the second has its place from now on, and waits for a worker
    broker = as_user(PRODUCER)
    assert broker.cancel(ids[1:3]) == [True, True]
    assert [id_of(each) for each in hand.claim()] == ids[3:]
    assert refusals() == []


def test_a_producer_reaches_nothing_else(server: RedisServer, as_user: Callable[[str], Broker]) -> None:
    broker = as_user(PRODUCER)
    for command in (
        ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("INFO",), ("EVAL", "return 1", 0),
        ("GET", "session:1"), ("SET", "{other}:index", "x"), ("HGETALL", "{taskq}:index"),
        ("ZRANGE", "{taskq}:workers", 0, -1), ("HSET", "{taskq}:recorder", "owner", "me"), ("DEL", "{taskq}:paused"),
        ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "{taskq}:queue:default:0", ">"), ("PUBLISH", "news", "x"),
    ):  # fmt: skip
        with pytest.raises(BrokerRefused, match=r"NOPERM|permission"):
            broker.connections.execute(*command)
    with pytest.raises(BrokerRefused, match=r"NOPERM|permission|ACL"):
        Inspector(broker).resume("default")
    registry = CollectorRegistry()
    registry.register(Cluster())
    assert [(each.name, each.value) for each in collected(registry).all] == [("taskq_redis_up", 1.0)]


def test_what_is_missing_is_said_to_the_caller(
    server: RedisServer, as_user: Callable[[str], Broker], refusals: Callable[[], list[dict[str, str]]]
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", PRODUCER, "-xadd")
    as_user(PRODUCER)
    with pytest.raises(BrokerRefused, match="refused a command: The user executing the script can't run this command"):
        add.delay(1, 2)
    assert refusals() == [{"username": PRODUCER, "reason": "command", "object": "xadd"}]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", PRODUCER, "+xadd", "resetkeys")
    with pytest.raises(BrokerRefused, match="no permissions to access one of the keys"):
        add.delay(1, 2)
