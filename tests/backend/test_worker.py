"""A real worker process: tasks that no module of its own imported, and a kill."""

from __future__ import annotations

import os
import signal

from django_taskq.models import TaskResult
from tests.backend import elsewhere
from tests.backend.api import Status
from tests.backend.conftest import ended
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker.conftest import task_processes


def test_a_worker_imports_what_it_is_to_run_and_its_tasks_survive_a_kill(worker: StartWorker) -> None:
    process = worker("--threads", "2")
    found, found_soon = elsewhere.found.enqueue(), elsewhere.found_soon.enqueue()
    assert (ended(found).return_value, ended(found_soon).return_value) == ("found", "found soon")
    held = elsewhere.hold.enqueue()
    wait_for(lambda: (held.refresh() or held.status) == Status.RUNNING, 10)
    [killed] = held.worker_ids
    os.kill(task_processes(process)[0], signal.SIGKILL)
    assert ended(held).return_value == "held"
    assert len(held.worker_ids) == held.attempts == 1, "an attempt that was lost is not counted"
    assert held.worker_ids != [killed]
    wait_for(lambda: TaskResult.objects.count() == 3, 10)
