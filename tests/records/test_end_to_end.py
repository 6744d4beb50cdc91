"""From delay() to rows, with real worker processes."""

from __future__ import annotations

import uuid

import pytest

from django_taskq.core.ids import id_from_str
from django_taskq.models import DeadTask, TaskResult
from django_taskq.records import find_record
from django_taskq.requeue import Requeued, requeue
from tests.conftest import StartWorker
from tests.sampleapp.tasks import add, fail
from tests.servers import wait_for


def recorded(id: str) -> TaskResult | None:
    return find_record(id_from_str(id))


def test_a_success_is_recorded(worker: StartWorker) -> None:
    worker("--threads", "2")
    handle = add.using(priority=5).delay(1, b=2)
    row = wait_for(lambda: recorded(handle.id), 10)
    assert (row.task, row.status, row.queue, row.priority, row.attempts) == (add.name, "succeeded", "default", 5, 1)
    assert (row.args, row.kwargs, row.result) == ("[1]", '{"b":2}', "3")
    assert row.enqueued_at is not None
    assert row.started_at is not None
    assert row.enqueued_at <= row.started_at <= row.finished_at
    assert row.worker
    assert row.wait is not None
    assert row.duration is not None


def test_a_requeued_failure_runs_again_and_its_records_follow(worker: StartWorker) -> None:
    worker("--threads", "2")
    handle = fail.delay("no luck")
    dead = wait_for(lambda: DeadTask.objects.filter(task_id=uuid.UUID(handle.id)).first(), 10)
    assert (dead.reason, dead.error_class, dead.error_message, dead.run) == ("failed", "ValueError", "no luck", 1)
    assert "raise ValueError(message)" in dead.traceback
    assert requeue(dead) is Requeued.SENT
    again = wait_for(lambda: DeadTask.objects.filter(task_id=dead.task_id, run=2).first(), 10)
    dead.refresh_from_db()
    assert (dead.state, again.state) == ("requeued", "dead")
    assert again.fingerprint == dead.fingerprint
    row = recorded(handle.id)
    assert row is not None
    assert (row.run, row.status, row.attempts) == (2, "failed", 1)


def test_with_record_failures_only_failures_become_rows(worker: StartWorker) -> None:
    worker("--threads", "2", taskq={"RECORD": "failures"})
    good, bad = add.delay(1, 2), fail.delay()
    assert good.get(timeout=10) == 3
    wait_for(lambda: recorded(bad.id), 10)
    assert recorded(good.id) is None


@pytest.mark.slow
def test_ten_thousand_outcomes_are_all_recorded(worker: StartWorker) -> None:
    worker()
    handles = add.delay_many([((number, 1), {}) for number in range(10_000)])
    wait_for(lambda: TaskResult.objects.count() == 10_000, 60)
    assert TaskResult.objects.filter(status="succeeded").count() == 10_000
    assert recorded(handles[-1].id) is not None
