"""In the modes "eager" and "collect" no Redis is asked, and nothing is down unless the test says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from django_taskq import TaskNotFound, get_task
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.testing import override_taskq, run_enqueued
from tests.backend import tasks as framework_tasks
from tests.testing import tasks


@pytest.fixture(params=["eager", "collect"], autouse=True)
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Where TASKQ["BROKER"] is."""
    tasks.tries.clear()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        address = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with override_taskq(MODE=request.param, BROKER=address):
            yield listener


@pytest.mark.django_db
def test_redis_is_never_asked(listener: socket.socket, django_capture_on_commit_callbacks: Any) -> None:
    ways = [
        tasks.remind.using(idempotency_key="k").delay("ada@example.com"),
        *tasks.limited.delay_many([((n,), {}) for n in (1, 2, 3)]),
        tasks.later.using(run_after=60, expires=90, deadline=90).delay(1),
        tasks.push.delay(fails=False),
        tasks.doubled.delay(1),
    ]
    with django_capture_on_commit_callbacks(execute=True):
        ways.append(tasks.through_outbox.delay(1))
    result = framework_tasks.add.enqueue(1)
    run_enqueued()
    for handle in ways:
        handle.refresh()
        assert handle.status == "succeeded"
    assert ways[0].progress is None
    assert ways[0].cancel() is None
    result.refresh()
    assert result.is_finished
    with pytest.raises(TaskNotFound):
        get_task(id_to_str(new_id())).refresh()
    with pytest.raises(BlockingIOError):  # nobody has connected
        listener.accept()


def test_breakers_stay_closed_whatever_fails() -> None:
    handles = [tasks.push.delay(fails=True) for _ in range(3)]
    handles.append(tasks.push.delay(fails=False))
    run_enqueued()
    assert [handle.status for handle in handles] == ["failed"] * 3 + ["succeeded"]


def test_a_task_that_meets_an_open_one_is_put_off_until_it_is_run_again() -> None:
    handle = tasks.meets_an_open_breaker.delay(2)
    runs = len(tasks.tries)
    while len(tasks.tries) < 2:
        run_enqueued()
        assert len(tasks.tries) <= (runs := runs + 1)
    assert handle.status == "scheduled"
    run_enqueued()
    assert (handle.get(), tasks.tries) == (3, [1, 1, 1])
