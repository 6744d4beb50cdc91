"""Three workers whose maintenance processes die between any two steps: each tick runs once."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from django_taskq.models import TaskResult
from django_taskq.periodic_task import PeriodicTask
from tests.chaos import ledger, points
from tests.conftest import StartWorker
from tests.servers import wait_for

POINTS = ("fire.before", "fire.after", "follow.before", "follow.after")
MODULES = ["tests.periodic.ticking", "tests.chaos.injected", "tests.worker.impatient"]


@pytest.mark.slow
def test_each_tick_runs_once_however_its_schedulers_die(worker: StartWorker, tmp_path: Path) -> None:
    books, ran = ledger.Books(tmp_path), tmp_path / "ticks"
    points.prepare(books, 3)
    env = {"CHAOS_DIRECTORY": str(tmp_path), "TICKS": str(ran)}
    queues = {"QUEUES": {"default": {}, "mail": {}}}
    for number, served in enumerate(("mail", "default", "default")):  # the first one fires what it does not run
        options = {"tasks": MODULES, "env": {**env, "CHAOS_MACHINE": str(number)}, "taskq": queues}
        worker("--threads", "1", "--queues", served, wait=False, **options)
    for point in POINTS:
        armed = points.arm(books, point)
        wait_for(lambda armed=armed: not armed.exists(), 20, f"{point} was not reached")
    armed = points.arm(books, "fire.after", "kill machine", machine=0)
    wait_for(lambda: not armed.exists(), 30, "the machine did not fire")
    so_far = ran.read_text().count("\n")
    wait_for(lambda: ran.read_text().count("\n") >= so_far + 2, 5)
    ids = [uuid.UUID(line) for line in ran.read_text().split()]
    ticks = sorted(id.int >> 80 for id in ids)
    assert ticks == list(range(ticks[0], ticks[0] + 1000 * len(ticks), 1000))
    # The machine may have been the recording one, whose lease another waits for: 10 s.
    wait_for(lambda: TaskResult.objects.filter(pk__in=ids, status="succeeded").count() == len(ids), 25)
    row = PeriodicTask.objects.get()
    assert (row.name, row.is_active, row.last_task is not None) == ("tests.tick", True, True)
