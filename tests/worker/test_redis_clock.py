"""The clock of Redis' machine steps an hour while tasks run, wait and are due: they all follow it, and none is lost."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.models import TaskResult
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import QUEUES, Ledger, losses_of, outcomes

pytestmark = pytest.mark.services

HOUR = 3600


@pytest.fixture
def clock(start: StartWorker, start_redis: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says how far ahead the clock of this test's Redis is."""
    library, file = tmp_path / "shifted_clock.so", tmp_path / "clock"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("CLOCK_AHEAD", str(file))
        server = start_redis(binary="redis-server")
    settings.TASKQ = {**settings.TASKQ, "BROKER": server.url, "QUEUES": QUEUES}
    return file


def step(clock: Path, seconds: int) -> None:
    draft = clock.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.rename(clock)
    wait_for(lambda: abs(get_broker().time() - time.time() - seconds) < 60)


@pytest.mark.django_db(transaction=True)
def test_an_hour_ahead_and_an_hour_back(clock: Path, start: StartWorker, ledger: Ledger, settings: Any) -> None:
    process = start("--threads", "4", taskq=settings.TASKQ, wait=False)
    (worker,) = wait_for(registered)
    handles: list[TaskHandle[Any]] = []
    for seconds in (HOUR, 0, -HOUR, 0):
        begun = len(ledger.events())
        running = tasks.holds.delay(ledger.path, ledger.gate)
        ledger.wait(begun + 1)
        due = tasks.works.using(run_after=1800).delay(ledger.path, 0)
        step(clock, seconds)
        now, soon = tasks.works.delay(ledger.path, 0), tasks.works.using(run_after=0.5).delay(ledger.path, 0)
        sent = time.monotonic()
        now.get(timeout=8)
        soon.get(timeout=8)
        assert time.monotonic() - sent > 0.4
        if seconds > 0:  # by the only clock that counts, half an hour is over
            due.get(timeout=8)
        ledger.open_gate()
        running.get(timeout=8)
        ledger.close_gate()
        handles += [running, now, soon]
        assert_recorded([handle.id for handle in handles])
    assert [losses_of(handle) for handle in handles] == [0] * len(handles)
    assert registered() == [worker]
    assert len({outcome.id for outcome in outcomes()}) == len(outcomes())
    assert "counts as dead" not in process.output()


def assert_recorded(ids: list[str]) -> None:
    wait_for(lambda: TaskResult.objects.filter(id__in=ids).count() == len(ids), 14)


def registered() -> list[str]:
    broker = get_broker()
    return [name.decode() for name in broker.connections.execute("ZRANGE", broker.keys.workers, 0, -1)]
