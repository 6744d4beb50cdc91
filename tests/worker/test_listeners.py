"""Signals, middleware and records around real tasks; some receivers fail, exit, or use the database."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.exceptions import TaskFailed
from django_taskq.models import DeadTask, TaskResult
from django_taskq.worker.unknown import UNKNOWN_GRACE
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger

MIDDLEWARE = ["tests.worker.listeners.both", "tests.worker.listeners.inner"]


def names(lines: list[dict[str, Any]], handle: TaskHandle[Any]) -> list[str]:
    return [line["event"] for line in lines if handle.id in (line.get("id"), line.get("task_id"))]


def fail(handle: TaskHandle[Any]) -> None:
    with pytest.raises(TaskFailed):
        handle.get(timeout=8)


def test_signals_and_middleware_see_every_task(start: StartWorker, ledger: Ledger, settings: Any) -> None:
    settings.TASKQ = {**settings.TASKQ, "MIDDLEWARE": MIDDLEWARE, "RECORD": "failures"}
    process = start("--threads", "2", tasks=[*TASKS, "tests.worker.listeners"], env={"TASKQ_TEST_LEDGER": ledger.path})
    quiet = "/dev/null"
    good, async_good = tasks.works.delay(quiet, 0), tasks.works_async.delay(quiet, 0)
    bad = tasks.fails.using(max_retries=1).delay(quiet, 9)
    cancelled = tasks.works.delay(quiet, 30)
    wait_for(lambda: "before" in names(ledger.read(), cancelled))
    cancelled.cancel()
    assert (good.get(timeout=5), async_good.get(timeout=5)) == ("", "")
    for handle in (bad, cancelled):
        fail(handle)
    wait_for(lambda: "task_cancelled" in names(ledger.read(), cancelled))
    wait_for(lambda: "task_failed" in names(ledger.read(), bad))
    wait_for(lambda: "task_succeeded" in names(ledger.read(), async_good))
    assert tasks.my_pid.delay().get(timeout=5) in process.children()
    wait_for(lambda: DeadTask.objects.filter(task_id=bad.id).exists())
    assert process.terminate() == 0
    lines = ledger.read()
    for handle in (good, async_good):
        assert names(lines, handle) == ["task_started", "before", "inner", "after", "task_succeeded"]
    once = ["task_started", "before", "inner", "raised"]
    assert names(lines, bad) == [*once, "task_retried", *once, "task_failed"]
    assert names(lines, cancelled) == ["task_started", "before", "inner", "task_cancelled"]
    assert {line["tenant"] for line in lines if line["event"] == "before" and line["id"] == bad.id} == {"of fails"}
    retried = next(line for line in lines if line["event"] == "task_retried")
    assert (retried["sender"], retried["queue"], retried["attempt"]) == ("tests.worker.tasks.fails", "default", 1)
    assert (retried["error"], retried["delay"]) == ("Unlucky('attempt 1')", 0.1)
    failed = next(line for line in lines if line["event"] == "task_failed")
    assert (failed["attempt"], failed["reason"], failed["error"]) == (2, "failed", "Unlucky('attempt 2')")
    assert 0 <= failed["duration"] < 1
    started, stopped = (
        next(line for line in lines if line["event"] == f"worker_{end}") for end in ("started", "stopped")
    )
    assert started["sender"] == stopped["sender"]
    assert (started["pid"], started["queues"]) == (process.pid, ["default", "mail", "slow"])
    assert sum(line["event"] == "queried" for line in lines) >= 10
    assert (TaskResult.objects.count(), set(TaskResult.objects.values_list("status", flat=True))) == (
        2, {"failed", "cancelled"},
    )  # fmt: skip


def test_ends_that_no_task_brings_about_are_told_too(start: StartWorker, ledger: Ledger) -> None:
    """Dead letters that no worker could run, and what is cancelled before a worker knows it."""
    broker = get_broker()
    long_ago = str(int((time.time() - UNKNOWN_GRACE - 1) * 1000))
    unknown, later, broken = new_id(), new_id(), new_id()
    lane = broker.keys.lane("default", 0)
    for id, task, *more in (
        (unknown, "shop.gone", "g", long_ago),
        (later, "shop.later", "g", long_ago, "v", "2"),
        (broken, tasks.works.name, "n", "many"),
    ):
        broker.connections.execute("XADD", lane, "*", "i", id, "t", task, *more)
    process = start("--burst", tasks=[*TASKS, "tests.worker.listeners"], env={"TASKQ_TEST_LEDGER": ledger.path})
    assert process.wait() == 0
    told = [line for line in ledger.read() if line["event"] == "task_failed"]
    assert {(line["sender"], line["reason"], line["queue"], line["attempt"]) for line in told} == {
        ("shop.gone", "unknown_task", "default", 0),
        ("shop.later", "unknown_version", "default", 0),
        (tasks.works.name, "malformed", "default", 0),
    }
    assert len(told) == 3
    assert {id_to_str(unknown), id_to_str(later)} < {line["task_id"] for line in told}


def test_middleware_that_cannot_wrap_coroutines_stops_the_worker_with_its_name(
    start: StartWorker, settings: Any
) -> None:
    settings.TASKQ = {**settings.TASKQ, "MIDDLEWARE": ["tests.worker.listeners.sync_only"]}
    process = start(wait=False)
    assert process.wait() != 0
    assert "tests.worker.listeners.sync_only does not take coroutine functions" in process.output()
