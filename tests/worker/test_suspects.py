"""A task that has cost two workers runs alone in its process, and costs everybody else as little as that allows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.broker.submission import Submission
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger, losses_of, task_processes, traces


def send(ledger: Ledger, *, suspects: int, others: int) -> tuple[list[TaskHandle[Any]], list[TaskHandle[Any]]]:
    """In one go: tasks that have cost two workers, which run until the gate opens, and short ones behind them."""
    calls = [(tasks.holds, [ledger.path, ledger.gate, "suspect"], 2)] * suspects
    calls += [(tasks.works, [ledger.path, 0, "other"], 0)] * others
    messages = [Message(new_id(), task.name, msgspec.json.encode(args), losses=losses) for task, args, losses in calls]
    get_broker().enqueue([Submission(message, "default") for message in messages])
    handles: list[TaskHandle[Any]] = [TaskHandle(message.id) for message in messages]
    return handles[:suspects], handles[suspects:]


def starts_of(ledger: Ledger, name: str) -> list[dict[str, Any]]:
    return [line for line in ledger.events() if line["name"] == name]


def test_a_suspect_does_not_wait_for_a_long_neighbour_nor_does_anybody_else(start: StartWorker, ledger: Ledger) -> None:
    """The process with the neighbours makes way: a new one runs the suspect alone, then everything else."""
    process = start("--threads", "4")
    (old,) = task_processes(process)
    long = Ledger(Path(f"{ledger.path}-long"))
    neighbours = [task.delay(ledger.path, long.gate, "long") for task in (tasks.holds, tasks.holds_async)]
    ledger.wait(2)
    (suspect,), others = send(ledger, suspects=1, others=10)
    sent = time.time()
    (first,) = wait_for(lambda: starts_of(ledger, "suspect"), 8)
    assert first["at"] - sent < 3
    assert first["pid"] != old
    time.sleep(0.3)
    assert starts_of(ledger, "other") == []
    assert "makes way for a new one: a task that has cost two workers is to run alone" in process.output()
    ledger.open_gate()
    for handle in (suspect, *others):
        handle.get(timeout=5)
    assert losses_of(suspect) == 2
    assert {line["pid"] for line in starts_of(ledger, "other")} == {first["pid"]}
    long.open_gate()
    for handle in neighbours:
        handle.get(timeout=5)
        assert losses_of(handle) == 0
    wait_for(lambda: old not in process.children(), 5)
    assert "died" not in process.output()
    assert process.terminate() == 0
    assert traces() == []


def test_a_suspect_waits_for_neighbours_that_end_soon(start: StartWorker, ledger: Ledger) -> None:
    process = start("--threads", "4")
    (pid,) = task_processes(process)
    neighbours = [tasks.works.delay(ledger.path, 0.5, "short") for _ in range(3)]
    ledger.wait(3)
    ledger.open_gate()
    (suspect,), _ = send(ledger, suspects=1, others=0)
    for handle in (suspect, *neighbours):
        handle.get(timeout=5)
    (first,) = starts_of(ledger, "suspect")
    assert first["at"] >= max(line["at"] for line in ledger.events("end") if line["name"] == "short")
    assert task_processes(process) == [pid]


def test_other_suspects_and_what_came_with_one_are_for_other_processes(start: StartWorker, ledger: Ledger) -> None:
    suspects, others = send(ledger, suspects=2, others=5)
    process = start("--threads", "4", "--processes", "3")
    wait_for(lambda: len(starts_of(ledger, "suspect")) == 2 and len(starts_of(ledger, "other")) == 5, 8, ledger.read)
    began = {line["pid"]: line["at"] for line in starts_of(ledger, "suspect")}
    assert len(began) == 2
    beside = [line for line in starts_of(ledger, "other") if line["pid"] in began]
    assert all(line["at"] < began[line["pid"]] for line in beside)
    ledger.open_gate()
    for handle in (*suspects, *others):
        handle.get(timeout=5)
    assert "died" not in process.output()
