from __future__ import annotations

import datetime as dt
import logging
import threading
import uuid
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from django_taskq import retention
from django_taskq.broker import Broker
from django_taskq.conf import get_settings
from django_taskq.models import DeadTask, TaskResult
from django_taskq.recorder import Recorder
from django_taskq.retention import Pruner, prune
from tests.records.outcomes import settle, succeeded
from tests.servers import wait_for

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def result(age: float, status: str = "succeeded") -> TaskResult:
    return TaskResult.objects.create(
        id=uuid.uuid4(), task="shop.send", queue="default", status=status, finished_at=NOW - age * DAY
    )


def dead(age: float, state: str = "dead") -> DeadTask:
    return DeadTask.objects.create(task_id=uuid.uuid4(), state=state, failed_at=NOW - age * DAY, fingerprint="f")


def left(model: Any) -> list[float]:
    column = "finished_at" if model is TaskResult else "failed_at"
    return sorted((NOW - at) / DAY for at in model.objects.values_list(column, flat=True))


def test_results_go_after_the_retention_and_failures_later() -> None:
    for age in (1, 6.9, 7.1, 89, 91):
        result(age)
        result(age, "failed")
    assert prune(NOW) == {"TaskResult": 4, "DeadTask": 0}
    assert left(TaskResult) == [1, 1, 6.9, 6.9, 7.1, 89]


def test_a_dead_letter_nobody_dealt_with_stays_as_long_as_failures_do() -> None:
    for age in (8, 89, 91):
        for state in DeadTask.State.values:
            dead(age, state)
    prune(NOW, settings=replace(get_settings(), retention_max_rows=0))
    assert left(DeadTask) == [8, 89]
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"dead"}


def test_rows_beyond_the_maximum_go_oldest_first() -> None:
    for age in (1, 2, 3, 4, 5):
        result(age, "failed" if age == 5 else "succeeded")
    assert prune(NOW, settings=replace(get_settings(), retention_max_rows=3))["TaskResult"] == 2
    assert left(TaskResult) == [1, 2, 3]


def test_exactly_the_maximum_stays_among_rows_of_one_moment() -> None:
    for _ in range(8):
        result(1)
    prune(NOW, settings=replace(get_settings(), retention_max_rows=5))
    assert TaskResult.objects.count() == 5


def test_batches_reach_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    TaskResult.objects.bulk_create(
        TaskResult(id=uuid.uuid4(), task="t", queue="q", status="succeeded", finished_at=NOW - 8 * DAY)
        for _ in range(95)
    )
    sizes: list[int] = []
    assert prune(NOW, progress=sizes.append)["TaskResult"] == 95
    assert max(sizes) <= 10


def test_progress_may_end_a_round() -> None:
    result(8)
    dead(91)
    assert prune(NOW, progress=lambda count: True) == {"TaskResult": 1, "DeadTask": 0}


@pytest.mark.django_db(transaction=True)
def test_the_pruner_prunes_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "EVERY", 0.1)
    faults = iter([RuntimeError("a bug")])
    real = retention.prune

    def faulty(**options: Any) -> Any:
        for fault in faults:
            raise fault
        return real(**options)

    monkeypatch.setattr(retention, "prune", faulty)
    TaskResult.objects.create(
        id=uuid.uuid4(), task="t", queue="q", status="succeeded", finished_at=timezone.now() - 8 * DAY
    )
    stop = threading.Event()
    thread = threading.Thread(target=Pruner().run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: not TaskResult.objects.exists(), 10)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert "pruner: attempt 1 failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_pruning_and_recording_at_once_lose_nothing(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Both write all the time: neither is held up for long, and neither fails."""
    now = timezone.now()
    TaskResult.objects.bulk_create(
        TaskResult(id=uuid.uuid4(), task="t", queue="q", status="succeeded", finished_at=now - 8 * DAY)
        for _ in range(4_000)
    )
    DeadTask.objects.bulk_create(
        DeadTask(task_id=uuid.uuid4(), state="requeued", failed_at=now - 91 * DAY, fingerprint="f") for _ in range(500)
    )
    sent = [succeeded(finished=now.timestamp()) for _ in range(2_000)]
    stop, recorder, pruner = threading.Event(), Recorder(broker), Pruner()
    recording = threading.Thread(target=recorder.run, args=(stop,))
    recording.start()
    pruning = threading.Thread(target=lambda: (pruner.run_once(stop), connections.close_all()))
    pruning.start()
    try:
        for first in range(0, len(sent), 100):
            settle(broker, *sent[first : first + 100])
        pruning.join(60)
        wait_for(lambda: not broker.recorder_lag(), 20)
    finally:
        stop.set()
        recording.join(20)
    assert not pruning.is_alive()
    assert {uuid.UUID(bytes=outcome.id) for outcome in sent} <= set(TaskResult.objects.values_list("pk", flat=True))
    assert not TaskResult.objects.filter(finished_at__lt=now - 7 * DAY).exists()
    assert not DeadTask.objects.filter(failed_at__lt=now - 90 * DAY).exists()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
