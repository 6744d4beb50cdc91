"""The clock of Redis' machine steps an hour while tasks run, wait, are due or paused: they follow it, none is lost."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from django_taskq import TaskHandle, get_task
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.models import TaskResult
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import limited, tasks
from tests.worker.conftest import QUEUES, TASKS, Ledger, losses_of, outcomes

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


@pytest.mark.django_db(transaction=True)
def test_an_hour_of_pause_loses_nothing(clock: Path, start: StartWorker, ledger: Ledger, settings: Any) -> None:
    settings.TASKQ = {**settings.TASKQ, "OUTCOME_WINDOW": 15}
    process = start("--threads", "4", taskq=settings.TASKQ, tasks=[*TASKS, "tests.worker.limited"], wait=False)
    (worker,) = wait_for(registered)
    inspector, path = Inspector(get_broker()), ledger.path
    before = tasks.works.using(idempotency_key="before").delay(path, 0)
    assert_recorded([before.id])
    running = tasks.holds.delay(path, ledger.gate)
    ledger.wait(2)
    with pytest.raises(ZeroDivisionError), limited.frail:
        raise ZeroDivisionError
    inspector.pause("mail")
    inspector.pause_task(tasks.works.name)
    of_type, late = tasks.works, tasks.works.using(queue_name="mail")
    waiting = [
        *(of_type.using(idempotency_key="type").delay(path, 0), of_type.using(expires=2 * HOUR).delay(path, 0)),
        *(late.using(idempotency_key="queue").delay(path, 0), late.using(run_after=HOUR / 2).delay(path, 0)),
        *(limited.hundred_a_second.using(queue_name="mail").delay(path) for _ in range(5)),
        *(limited.one_of_few.using(queue_name="mail").delay(path, "a", number) for number in range(5)),
        *(limited.takes_its_process_along.using(queue_name="mail").delay(path, number, 0) for number in range(3)),
    ]
    expiring = [each.using(expires=HOUR / 2).delay(path, 0) for each in (of_type, late)]
    wait_for(lambda: (expiring[0].refresh(), expiring[0].status == "blocked")[1])
    step(clock, HOUR)
    time.sleep(3.5)  # a sweep of limits, a look at workers, a round of retention: none of them takes anything for lost
    assert len(ledger.events()) == 2
    assert of_type.using(idempotency_key="type").delay(path, 0).id == waiting[0].id
    assert get_task(before.id).status == "succeeded"
    inspector.resume("mail")
    inspector.resume_task(tasks.works.name)
    ledger.open_gate()
    for handle in [running, *waiting]:
        handle.get(timeout=8)
    ended = [running, *waiting, *expiring]
    assert_recorded([handle.id for handle in ended])
    assert [(handle.refresh(), handle.status)[1] for handle in expiring] == ["expired", "expired"]
    assert set(TaskResult.objects.values_list("status", "losses")) == {("succeeded", 0), ("expired", 0)}
    assert TaskResult.objects.count() == len(ended) + 1
    assert registered() == [worker]
    assert "counts as dead" not in process.output()


def assert_recorded(ids: list[str]) -> None:
    wait_for(lambda: TaskResult.objects.filter(id__in=ids).count() == len(ids), 14)


def registered() -> list[str]:
    broker = get_broker()
    return [name.decode() for name in broker.connections.execute("ZRANGE", broker.keys.workers, 0, -1)]
