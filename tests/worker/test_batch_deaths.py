"""Batches in real workers that die, are killed or stop: each call still ends once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from django_taskq import Task, TaskHandle
from tests.chaos import ledger as books
from tests.chaos import points
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import batch_tasks, tasks
from tests.worker.conftest import TASKS, Ledger, losses_of, outcomes, task_processes
from tests.worker.test_batches import ends, names_of, send

MODULES = [*TASKS, "tests.worker.batch_tasks"]

# point -> (calls, how often their batch starts, losses of each of them)
POINTS = {
    "claim.after": ("abcde", 1, 0),
    "dispatch.after": ("abcd", 1, 0),  # they gather
    "run.before": ("abcde", 1, 1),
    "run.after": ("abcde", 2, 1),
    "complete.before": ("abcde", 2, 0),  # what is settled, and what is not yet
    "complete.after": ("abcde", 1, 0),
}


@pytest.fixture
def killing(start: StartWorker, tmp_path: Path) -> books.Books:
    """A worker whose processes die at armed points, and are replaced at once however often."""
    found = books.Books(tmp_path)
    points.prepare(found, 1)
    modules = [*MODULES, "tests.chaos.injected", "tests.worker.impatient"]
    start("--threads", "1", tasks=modules, env={"CHAOS_MACHINE": "0", "CHAOS_DIRECTORY": str(tmp_path)})
    return found


def test_a_process_that_dies_between_two_steps_of_a_batch_loses_nothing(killing: books.Books, tmp_path: Path) -> None:
    handles: list[TaskHandle[Any]] = []
    for point, (names, starts, losses) in POINTS.items():
        ledger = Ledger(tmp_path / f"ledger-{point}")
        tasks.my_pid.delay().get(timeout=5)
        armed = points.arm(killing, point)
        sent = send(batch_tasks.gathers, ledger, *names)
        wait_for(lambda armed=armed: not armed.exists(), 5, f"{point} was not reached")
        assert ends(sent) == ["succeeded"] * len(names), point
        assert (point, len(ledger.events())) == (point, starts)
        assert {losses_of(handle) for handle in sent} == {losses}, point
        handles += sent
    for point in ("complete.after", "retry.after", "bury.after"):  # scripts of their own for the calls of one batch
        ledger = Ledger(tmp_path / f"ledger-{point}-mixed")
        tasks.my_pid.delay().get(timeout=5)
        armed = points.arm(killing, point)
        sent = send(batch_tasks.gathers, ledger, *"abcde", b="fail", c="discard", d="fail once")
        wait_for(lambda armed=armed: not armed.exists(), 5, f"{point} was not reached")
        assert ends(sent) == ["succeeded", "failed", "discarded", "succeeded", "succeeded"], point
        handles += sent
    ids = [outcome.id for outcome in outcomes()]
    assert [ids.count(handle._id) for handle in handles] == [1] * len(handles)


def test_only_the_call_that_is_to_blame_pays(start: StartWorker, ledger: Ledger, tmp_path: Path) -> None:
    process = start("--threads", "2", tasks=[*MODULES, "tests.worker.impatient"])

    # One call kills every process that runs it: from its second loss on each call runs alone.
    handles = send(batch_tasks.kills, ledger, *"abc", b="kill")
    assert ends(handles) == ["succeeded", "failed", "succeeded"]
    assert [losses_of(handle) for handle in handles] == [2, 3, 2]
    assert [outcome.reason for outcome in outcomes() if outcome.status == "failed"] == ["worker_lost"]
    assert [len(names) for names in names_of(ledger)][:2] == [3, 3]
    assert all(len(names) == 1 for names in names_of(ledger)[2:])

    # A hard limit is a failed attempt of every call of its batch, and nothing to those that gather beside it.
    gathering = Ledger(tmp_path / "gathering")
    handles = send(batch_tasks.never_ends, Ledger(tmp_path / "hard"), *"abc")
    waiting = send(batch_tasks.patient, gathering, *"de")
    assert ends(handles) == ["failed"] * 3
    assert [outcome.reason for outcome in outcomes()][-3:] == ["hard_timeout"] * 3
    assert [losses_of(handle) for handle in handles] == [0] * 3

    # Killed while calls gather, it loses none of them, and it is no loss.
    wait_for(lambda: [(handle.refresh(), handle.status)[1] for handle in waiting] == ["running"] * 2, 5)
    (pid,) = wait_for(lambda: set(task_processes(process)) & set(process.children()), 5)  # the dead leave it later
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: task_processes(process) not in ([pid], []), 5)
    waiting += send(batch_tasks.patient, gathering, *(str(number) for number in range(998)))
    assert ends(waiting) == ["succeeded"] * 1_000
    (line,) = gathering.events()
    assert set(line["names"]) == {"d", "e", *(str(number) for number in range(998))}
    assert losses_of(waiting[0]) == 0


@pytest.mark.parametrize("options", [("--burst",), ("--max-tasks", "7")])
def test_a_worker_that_ends_by_itself_runs_what_has_gathered_first(
    options: tuple[str, ...], start: StartWorker, ledger: Ledger
) -> None:
    task: Task[..., Any] = batch_tasks.patient
    handles = send(task, ledger, *"abcdefg")
    process = start(*options, tasks=MODULES)
    began = time.monotonic()
    assert ends(handles) == ["succeeded"] * 7
    assert names_of(ledger) == [list("abcdefg")]
    assert time.monotonic() - began < 10  # not the 30 s that a batch waits
    if options == ("--burst",):
        assert process.wait(15) == 0
    assert "died" not in process.output()
