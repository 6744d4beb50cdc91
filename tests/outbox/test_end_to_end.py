"""A real worker and its relay: from the commit to the row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from django_taskq import outbox
from django_taskq.broker import Broker
from django_taskq.models import TaskResult
from tests.outbox.conftest import waiting
from tests.outbox.tasks import add, note
from tests.servers import RedisServer, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartWorker

TASKS = ["tests.outbox.tasks"]


def test_what_is_committed_runs_soon_and_once(
    worker: StartWorker, broker: Broker, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = worker("--threads", "1", tasks=TASKS)
    assert add.delay(1, 2).get(timeout=10) == 3

    # Order: one thread, one queue.
    ran = tmp_path / "ran"
    with transaction.atomic():
        handles = [note.delay(str(ran), f"{number}") for number in range(50)]
    handles[-1].get(timeout=10)
    assert ran.read_text().split() == [f"{number}" for number in range(50)]

    # An outage: nothing raises, and afterwards each runs once.
    redis_server.stop()
    monkeypatch.setattr(outbox, "_quiet_until", 0.0)
    late = [add.delay(number) for number in range(20)]
    assert len(waiting()) == 20
    redis_server.start()
    wait_for(lambda: not waiting(), 20, process.output)
    assert [handle.get(timeout=20) for handle in late] == [number + 1 for number in range(20)]
    wait_for(lambda: TaskResult.objects.count() == 71, 10, process.output)

    # A machine goes down: another sends what was committed meanwhile.
    process.kill_tree()
    handle = add.delay(2)
    assert handle.id in waiting()
    broker.connections.execute("HSET", broker.keys.relay_prefix + "default", "until", 1)  # as after 10 s
    assert worker("--threads", "1", tasks=TASKS).alive
    assert handle.get(timeout=20) == 3


def test_a_burst_runs_what_was_committed_before_it(worker: StartWorker) -> None:
    handles = [add.delay(number) for number in range(600)]
    process = worker("--burst", tasks=TASKS, wait=False)
    assert process.wait(20) == 0
    assert [handle.get(timeout=0) for handle in handles] == [number + 1 for number in range(600)]
