"""taskq_status: queues, workers and running tasks, for people and for programs."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, connection

from django_taskq.broker import Broker, get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.workers import Beat
from django_taskq.management.commands import taskq_status
from django_taskq.management.status import Seen, look
from tests.broker.helpers import Hand, Shard
from tests.commands.conftest import Manage, run
from tests.sampleapp.tasks import add, sleep
from tests.servers import RedisServer, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

pytestmark = pytest.mark.django_db


def test_an_idle_project(broker: Broker) -> None:
    result = run("taskq_status")
    assert result.code == 0
    assert result.out.splitlines()[0].split() == [
        "QUEUE",
        "READY",
        "RUNNING",
        "SCHEDULED",
        "BLOCKED",
        "OLDEST",
        "NEXT",
        "DUE",
    ]
    assert result.out.splitlines()[1].split() == ["default", "0", "0", "0", "0", "-", "-"]
    assert "No worker is registered: start one with `manage.py taskq_worker`." in result.out


def test_what_waits_and_what_is_paused(broker: Broker, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    add.delay(1, 2)
    add.using(priority=5).delay(1, 2)
    add.using(queue_name="mail", run_after=3600).delay(1, 2)
    Inspector(get_broker()).pause("mail")
    state = run("taskq_status", "--json").json
    [default, mail] = state["queues"]
    assert (default["ready"], default["priorities"], default["paused"]) == (2, {"0": 1, "5": 1}, False)
    assert (mail["ready"], mail["scheduled"], mail["paused"]) == (0, 1, True)
    assert state["time"] - 5 < default["oldest"] <= state["time"]
    assert 3500 < mail["next_due"] - state["time"] <= 3600
    lines = run("taskq_status").out.splitlines()
    assert lines[1].split()[:4] == ["default", "2", "0", "0"]
    assert lines[2].split() == ["mail", "0", "0", "1", "0", "-", "60", "min", "paused"]


def test_queues_with_a_maximum_length(broker: Broker, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {"max_length": 2}, "mail": {"max_length": 2}}}
    add.delay(1, 2)
    add.using(run_after=3600).delay(1, 2)
    lines = run("taskq_status").out.splitlines()
    assert lines[1].endswith("full: 2 may wait")
    assert lines[2].endswith("-  2 may wait")


def test_workers_that_wait_for_the_database_say_so(broker: Broker) -> None:
    shard = Shard(broker)
    hand = Hand(shard)
    shard.workers.beat([Beat(hand.name, {"max_outcomes": "2", "weights": "6,1", "queues": "default,mail"})])
    shard.seed_ended(hand, 2)
    lines = run("taskq_status").out
    assert "2 outcomes wait for the database, and MAX_OUTCOMES is 2: workers claim nothing until some are" in lines
    assert "default:6,mail:1" in lines


def test_workers_and_running_tasks(worker: StartWorker) -> None:
    process = worker("--threads", "3")
    handle = sleep.delay(2)

    def running() -> Any:
        [found] = run("taskq_status", "--json").json["workers"]
        return found if found["running"] else None

    found = wait_for(running, 5)
    assert found["id"] == process.ids[0]
    assert (found["threads"], found["queues"], found["state"]) == (3, ["default"], "running")
    [task] = found["running"]
    assert (task["task"], task["id"], task["attempt"]) == ("tests.sampleapp.tasks.sleep", handle.id, 1)
    lines = [line.split() for line in run("taskq_status").out.splitlines()]
    assert [found["id"], "running", "default", "1/3"] in [line[:4] for line in lines]
    assert ["tests.sampleapp.tasks.sleep", handle.id, "default", "1"] in [line[:4] for line in lines]


def test_redis_away_is_one_line(redis_server: RedisServer, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "BROKER": "redis://127.0.0.1:1/0"}
    with pytest.raises(CommandError, match=r"Redis at redis://127.0.0.1:1/0 cannot be reached"):
        run("taskq_status")


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_while_the_database_is_away_it_says_what_it_cannot_show(broker: Broker, kind: type[Exception]) -> None:
    def refuse(*_: Any) -> Any:
        raise kind("the database is away")

    with connection.execute_wrapper(refuse):
        result = run("taskq_status")
        found = run("taskq_status", "--json").json
    assert result.out.startswith("QUEUE")
    assert "The database cannot be asked: periodic tasks and outboxes are not shown." in result.out
    assert (found["periodic"], found["outboxes"]) == (None, [])


@pytest.mark.parametrize("wrong", ["soon", "0", "-1", "nan"])
def test_a_wrong_span_is_refused(wrong: str) -> None:
    with pytest.raises(CommandError, match=r"must be a number, from 0\.1 to 86400"):
        run("taskq_status", f"--watch={wrong}")


def test_watching_looks_again_until_ctrl_c(manage: Manage) -> None:
    watching = manage.start("taskq_status", "--json", "--watch", "0.1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watching.stdout is not None
    times = [json.loads(watching.stdout.readline())["time"] for _ in range(3)]
    assert times == sorted(set(times))
    watching.send_signal(signal.SIGINT)
    _, error = watching.communicate(timeout=10)
    assert (watching.returncode, error) == (0, "")


def test_ctrl_c_ends_the_watch_even_where_a_library_swallows_it(monkeypatch, capsys) -> None:
    looks = []

    def looked(broker: Broker) -> Seen:
        looks.append(broker)
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        return look(broker)

    monkeypatch.setattr(taskq_status, "look", looked)
    before = signal.getsignal(signal.SIGINT)
    run("taskq_status", "--json", "--watch", "0.1")
    assert len(looks) == 1
    assert signal.getsignal(signal.SIGINT) == before


def test_a_thread_may_watch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def looked(broker: Broker) -> Seen:
        raise Enough

    monkeypatch.setattr(taskq_status, "look", looked)
    with ThreadPoolExecutor(1) as pool, pytest.raises(Enough):
        pool.submit(run, "taskq_status", "--watch", "1").result()
