"""The supervisor's decisions that no test with real processes can bring about."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from django_taskq.broker import Broker
from django_taskq.worker import supervisor
from django_taskq.worker.options import WorkerOptions
from django_taskq.worker.supervisor import Supervisor


def test_a_machine_that_has_no_room_for_a_process_is_asked_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "MaintenanceChild", refuse)
    watched = Supervisor(broker, WorkerOptions(("default",)))
    watched._start_missing()
    watched._start_missing()
    assert caplog.text.count("no process can be started, trying again") == 1
    assert not watched._task_restarts.may_start()


def test_a_maintenance_process_that_cannot_live_keeps_no_task_process_from_starting(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(supervisor, "MaintenanceChild", lambda *_: started.append("maintenance"))
    monkeypatch.setattr(supervisor, "TaskChild", lambda *_: started.append("task") or FakeChild())
    watched = Supervisor(broker, WorkerOptions(("default",)))
    for _ in range(3):
        watched._maintenance_restarts.died(time.monotonic())
    watched._start_missing()
    assert started == ["task"]


class FakeChild:
    lasting = True
