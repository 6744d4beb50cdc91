"""A real worker process: tasks that no module of its own imported, and what becomes of those whose process dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from django_taskq.backend.results import Origin
from django_taskq.broker import Broker, Submission
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.core.message import Message
from django_taskq.models import DeadTask, TaskResult
from tests.backend import deadly, elsewhere
from tests.backend.api import Status
from tests.backend.conftest import ended
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker.conftest import Ledger, task_processes


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


def test_an_end_that_its_process_did_not_live_to_see_is_a_failure_and_announced_once(
    worker: StartWorker, broker: Broker, tmp_path: Path
) -> None:
    """Killed at a hard limit, by the supervisor; lost for the third time, by whoever claims it next."""
    ledger = Ledger(tmp_path / "ledger")
    worker("--threads", "1", tasks=["tests.backend.deadly"], env={"TASKQ_TEST_LEDGER": ledger.path})
    stuck, stuck_twice = ended(deadly.stuck.enqueue()), ended(deadly.stuck_twice.enqueue())
    lost = Message(new_id(), deadly.dies.module_path, losses=2, origin=Origin("default").encoded())
    broker.enqueue([Submission(lost, "default")])
    dead = ended(deadly.dies.get_result(id_to_str(lost.id)))

    limit, none = "django_taskq.exceptions.HardTimeout", "django_taskq.exceptions.TaskFailed"
    for result, attempts, errors in ((stuck, 1, [limit]), (stuck_twice, 2, [limit] * 2), (dead, 0, [none])):
        assert (result.status, result.attempts) == (Status.FAILED, attempts)
        assert [error.exception_class_path for error in result.errors] == errors
        assert result.finished_at is not None
    assert "The worker died 3 times" in dead.errors[0].traceback
    wait_for(lambda: len(ledger.events("finished")) == 3, 5, ledger.read)
    for result, line in zip((stuck, stuck_twice, dead), ledger.events("finished"), strict=True):
        assert (line["id"], line["status"], line["ended"]) == (result.id, Status.FAILED, True)
        assert line["errors"] == [error.exception_class_path for error in result.errors]
    starts = [line["id"] for line in ledger.events("started")]
    assert starts == [stuck.id, stuck_twice.id, stuck_twice.id, dead.id]
    wait_for(lambda: DeadTask.objects.count() == 3, 10)
    assert [*DeadTask.objects.order_by("id").values_list("reason", flat=True)] == [*["hard_timeout"] * 2, "worker_lost"]
