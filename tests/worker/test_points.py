"""A task process that dies exactly between two steps: whatever it was doing runs to one outcome, soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from django_taskq import TaskHandle
from tests.chaos import ledger as books
from tests.chaos import points
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger, losses_of, outcomes

# point -> (task, how often its body starts, losses: of a process that dies while a slot runs the task)
POINTS: dict[str, tuple[str, int, int | None]] = {
    "claim.after": ("works", 1, 0),  # handed over, and nobody knew
    "dispatch.after": ("works", 1, None),  # a slot may be quicker than the signal
    "run.before": ("works", 1, 1),
    "run.after": ("works", 2, 1),
    "complete.before": ("works", 2, 0),
    "complete.after": ("works", 1, 0),
    "retry.before": ("fails", 3, 0),
    "retry.after": ("fails", 2, 0),
    "bury.before": ("fails for good", 2, 0),
    "bury.after": ("fails for good", 1, 0),
}


def send(kind: str, path: str) -> TaskHandle[Any]:
    if kind == "works":
        return tasks.works.delay(path, 0)
    return tasks.fails.using(max_retries=0 if kind == "fails for good" else 1).delay(path, 1)


@pytest.fixture
def killing(start: StartWorker, tmp_path: Path) -> books.Books:
    """A worker whose processes die at armed points, and are replaced at once however often."""
    found = books.Books(tmp_path)
    points.prepare(found, 1)
    modules = [*TASKS, "tests.chaos.injected", "tests.worker.impatient"]
    start("--threads", "1", tasks=modules, env={"CHAOS_MACHINE": "0", "CHAOS_DIRECTORY": str(tmp_path)})
    return found


def test_a_process_that_dies_between_two_steps_loses_nothing(killing: books.Books, tmp_path: Path) -> None:
    handles = []
    for point, (kind, starts, losses) in POINTS.items():
        ledger = Ledger(tmp_path / f"ledger-{point}")
        tasks.my_pid.delay().get(timeout=5)
        armed = points.arm(killing, point)
        sent = time.monotonic()
        handle = send(kind, ledger.path)
        wait_for(lambda armed=armed: not armed.exists(), 5, f"{point} was not reached")
        state = "failed" if kind == "fails for good" else "succeeded"
        wait_for(lambda handle=handle, state=state: (handle.refresh(), handle.status == state)[1], 8, point)
        assert time.monotonic() - sent < 4, point
        ran = [line for line in ledger.read() if line.get("event", "start") == "start"]
        if losses is None:
            assert starts <= len(ran) <= starts + 1
        else:
            assert (point, len(ran), losses_of(handle)) == (point, starts, losses)
        handles.append(handle)
    ids = [outcome.id for outcome in outcomes()]
    assert [ids.count(handle._id) for handle in handles] == [1] * len(POINTS)
