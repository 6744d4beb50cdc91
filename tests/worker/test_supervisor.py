"""The supervisor's decisions that no test with real processes can bring about."""

from __future__ import annotations

import errno
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
    assert watched._start_at > 0
