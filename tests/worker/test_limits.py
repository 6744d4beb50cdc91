"""Time limits: the exception in the task, the thread that ignores it, the process that is killed for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_taskq import TaskHandle, get_task
from django_taskq.broker import get_broker
from django_taskq.core.outcome import Outcome
from django_taskq.exceptions import TaskFailed
from tests.conftest import StartWorker
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger, task_processes, traces


def end_of(handle: TaskHandle[Any], timeout: float = 12) -> Outcome:
    with pytest.raises(TaskFailed):
        handle.get(timeout=timeout)
    outcome = get_broker().find([handle._id])[0].outcome
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("task", [tasks.works, tasks.works_async])
def test_a_task_is_interrupted_at_its_time_limit(task: Any, running: WorkerProcess, ledger: Ledger) -> None:
    outcome = end_of(task.using(timeout=0.5).delay(ledger.path, 30))
    assert (outcome.status, outcome.reason, outcome.attempts) == ("failed", "timeout", 1)
    assert outcome.error_class == "django_taskq.exceptions.TaskTimeout"
    assert "works" in outcome.traceback
    start, end = ledger.read()
    assert end["event"] in {"TaskTimeout", "CancelledError"}
    assert end["at"] - start["at"] == pytest.approx(0.55, abs=0.12)


def test_a_loop_in_python_is_interrupted(running: WorkerProcess) -> None:
    assert end_of(tasks.loops.using(timeout=0.3).delay()).reason == "timeout"


def test_a_timeout_is_a_failed_attempt_that_is_retried(running: WorkerProcess, ledger: Ledger) -> None:
    outcome = end_of(tasks.works.using(timeout=0.2, max_retries=1).delay(ledger.path, 30))
    assert (outcome.attempts, outcome.losses, len(ledger.events())) == (2, 0, 2)
    assert [attempt.how for attempt in outcome.history] == ["retry", "timeout"]


@pytest.mark.parametrize("task", [tasks.works, tasks.works_async])
def test_a_task_is_interrupted_at_its_deadline_and_not_tried_again(
    task: Any, running: WorkerProcess, ledger: Ledger
) -> None:
    outcome = end_of(task.using(timeout=30, deadline=0.6, max_retries=3).delay(ledger.path, 30))
    assert (outcome.status, outcome.reason, outcome.attempts) == ("failed", "deadline", 1)
    assert outcome.error_class == "django_taskq.exceptions.TaskTimeout"
    start, end = ledger.read()
    assert end["at"] - start["at"] == pytest.approx(0.6, abs=0.15)


def test_a_child_inherits_what_is_left(running: WorkerProcess) -> None:
    left, child = tasks.asks_a_child.using(deadline=20).delay().get(timeout=10)
    assert get_task(child).get(timeout=10) == pytest.approx(left, abs=1)
    assert 15 < left <= 20


def test_a_task_that_ends_in_time_is_left_alone(running: WorkerProcess, ledger: Ledger) -> None:
    handles = [task.using(timeout=0.4).delay(ledger.path, 0.1) for task in (tasks.works, tasks.works_async)]
    for handle in handles:
        handle.get(timeout=5)
    time.sleep(0.5)
    assert len(ledger.read()) == 4


def test_whoever_ignores_a_time_limit_loses_the_task(start: StartWorker, ledger: Ledger) -> None:
    """Stuck, each in its way: in C, in Python, in a coroutine, and in another process the whole event loop."""
    impatient = [
        *TASKS,
        "tests.worker.impatient",
        "tests.worker.untraced",
    ]  # one second until who is stuck loses the task, not five
    process = start("--threads", "4", "--queues", "default", tasks=impatient)
    other = start("--queues", "slow", tasks=impatient)
    (old,), (blocked,) = task_processes(process), task_processes(other)
    began = time.monotonic()
    stuck = [
        tasks.blocks.using(timeout=0.5).delay(ledger.path, 60),
        tasks.stubborn.using(timeout=0.5).delay(ledger.path, 60),
        tasks.stubborn_async.using(timeout=0.5).delay(ledger.path, 60),
        tasks.blocks_the_loop.using(timeout=0.5, queue_name="slow").delay(ledger.path, 60),
    ]
    neighbour = tasks.holds.delay(ledger.path, ledger.gate, "neighbour")
    ledger.wait(5)
    outcomes = [end_of(handle) for handle in stuck]
    assert time.monotonic() - began == pytest.approx(1.8, abs=0.5)
    assert {(outcome.status, outcome.reason, outcome.attempts) for outcome in outcomes} == {("failed", "timeout", 1)}
    assert len(ledger.events("ignored")) == 2
    assert process.output().count("is stuck: it ignored its time limit") == 3
    assert process.output().count("makes way for a new one") == 1
    wait_for(lambda: set(task_processes(process)) - {old}, 3)
    assert tasks.my_pid.delay().get(timeout=5) != old
    assert old in process.children()
    ledger.open_gate()
    assert neighbour.get(timeout=5) == "neighbour"
    wait_for(lambda: old not in process.children(), 3)
    wait_for(lambda: blocked not in other.children(), 3)
    assert tasks.double_async.using(queue_name="slow").delay(1).get(timeout=5) == 2
    assert "died" not in process.output() + other.output()
    assert (process.terminate(), other.terminate()) == (0, 0)
    assert traces() == []


def test_a_hard_limit_kills_the_process_and_nobody_else_is_to_blame(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "4")
    (old,) = task_processes(process)
    # They have started: no `expires` counts for them any more.
    neighbours = [
        tasks.works.using(expires=0.3).delay(ledger.path, 1.2, "neighbour"),
        tasks.works_async.using(expires=0.3).delay(ledger.path, 1.2, "neighbour"),
    ]
    ledger.wait(2)
    began = time.monotonic()
    culprit = tasks.blocks.using(timeout=None, hard_timeout=0.3).delay(ledger.path, 60, "culprit")
    outcome = end_of(culprit)
    assert time.monotonic() - began < 1
    assert (outcome.status, outcome.reason, outcome.attempts, outcome.losses) == ("failed", "hard_timeout", 1, 0)
    assert [attempt.how for attempt in outcome.history] == ["timeout"]
    for handle in neighbours:
        assert handle.get(timeout=5) == "neighbour"
        found = get_broker().find([handle._id])[0].outcome
        assert found is not None
        assert (found.losses, found.attempts) == (0, 1)
    again = [line["at"] for line in ledger.events() if line["name"] == "neighbour" and line["pid"] != old]
    died = outcome.finished
    assert died is not None
    assert [at - died for at in again] == [pytest.approx(0.5, abs=0.5)] * 2
    assert "hard time limit" in process.output()


@pytest.mark.slow
def test_a_hard_limit_is_a_failed_attempt_that_is_retried(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "2")
    call = tasks.blocks.using(timeout=None, hard_timeout=0.3, max_retries=1)
    outcome = end_of(call.delay(ledger.path, 60))
    assert (outcome.attempts, outcome.losses, len(ledger.events())) == (2, 0, 2)
    assert [attempt.how for attempt in outcome.history] == ["retry", "timeout"]
    assert "tests.worker.tasks.blocks" in process.output()


def test_a_task_within_its_hard_limit_is_left_alone(running: WorkerProcess, ledger: Ledger) -> None:
    pids = task_processes(running)
    call = tasks.works.using(hard_timeout=0.8, timeout=0.7)
    for _ in range(3):
        call.delay(ledger.path, 0.3).get(timeout=5)
    assert task_processes(running) == pids
