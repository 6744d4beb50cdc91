"""Decisions about children that no test with real processes can bring about."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from django_taskq.broker import Broker
from django_taskq.broker.workers import Workers
from django_taskq.worker import nursery
from django_taskq.worker.graves import Graves
from django_taskq.worker.nursery import Nursery
from django_taskq.worker.options import WorkerOptions
from django_taskq.worker.tally import Increments, Tally

OPTIONS = WorkerOptions(("default",))


def new_nursery(broker: Broker) -> Nursery:
    return Nursery(broker, Graves(broker, Workers(broker.connections, broker.keys), Tally()), Increments())


def test_a_machine_that_has_no_room_for_a_process_is_asked_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(nursery, "MaintenanceChild", refuse)
    children = new_nursery(broker)
    children.start_missing(OPTIONS, ())
    children.start_missing(OPTIONS, ())
    assert caplog.text.count("no process can be started, trying again") == 1
    assert not children._task_restarts.may_start()


def test_a_maintenance_process_that_cannot_live_keeps_no_task_process_from_starting(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(nursery, "MaintenanceChild", lambda *_: started.append("maintenance"))
    monkeypatch.setattr(nursery, "TaskChild", lambda *_: started.append("task") or FakeChild())
    children = new_nursery(broker)
    for _ in range(3):
        children._maintenance_restarts.died(time.monotonic())
    children.start_missing(OPTIONS, ())
    assert started == ["task"]


class FakeChild:
    lasting = True
