"""`runserver` says once when no worker runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from django_taskq import worker_hint
from django_taskq.broker import Broker
from django_taskq.broker.workers import Beat, Workers
from django_taskq.signals import task_enqueued
from tests.sampleapp.tasks import add


@pytest.fixture
def runserver(monkeypatch: pytest.MonkeyPatch, settings: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    settings.DEBUG = True  # type: ignore[attr-defined]
    yield
    task_enqueued.disconnect(dispatch_uid=worker_hint.UID)


def test_the_first_task_has_somebody_look(
    broker: Broker, runserver: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_hint.look, "__defaults__", (0.0,))
    worker_hint.watch_for_workers()
    add.delay(1, 2)
    add.delay(1, 2)
    for thread in threading.enumerate():
        if thread.name == "taskq-hint":
            thread.join(5)
    assert [record.message for record in caplog.records].count(worker_hint.HINT) == 1
    assert not task_enqueued.disconnect(dispatch_uid=worker_hint.UID)


def test_a_worker_that_beats_is_none_that_is_missed(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(broker.connections, broker.keys)
    workers.register("dead-1", {})
    worker_hint.look(0.0)
    assert worker_hint.HINT in caplog.text
    caplog.clear()
    timer = threading.Timer(0.05, workers.beat, [[Beat("dead-1", {})]])
    timer.start()
    worker_hint.look(0.3)
    timer.join()
    assert caplog.text == ""


def test_elsewhere_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_hint.watch_for_workers()
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    worker_hint.watch_for_workers()  # DEBUG is off
    assert not task_enqueued.disconnect(dispatch_uid=worker_hint.UID)
