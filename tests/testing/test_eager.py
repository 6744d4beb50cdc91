"""TASKQ["MODE"] = "eager": tasks run where they are sent, with everything else as it is at a worker."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from django_taskq import InvalidArguments, ResultError, TaskFailed, get_task, signals
from django_taskq.testing import enqueued, override_taskq
from tests.backend import tasks as framework_tasks
from tests.backend.api import Status
from tests.tasks import middleware
from tests.testing import tasks


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """No Redis listens at TASKQ["BROKER"] in these tests."""
    tasks.tries.clear()
    tasks.batches.clear()
    with override_taskq(MODE="eager"):
        yield


def test_a_task_has_ended_when_delay_returns() -> None:
    handle = tasks.remind.delay("ada@example.com", dt.date(2026, 12, 1))
    assert handle.status == "succeeded"
    assert handle.created
    assert handle.get() == "ada@example.com 2026-12-01 True date"
    assert get_task(handle.id).get() == handle.get()
    assert handle.cancel() is None


def test_arguments_that_json_would_change_are_refused_as_they_are_elsewhere() -> None:
    with pytest.raises(InvalidArguments, match="email"):
        tasks.remind.delay(object())  # type: ignore[arg-type]


def test_a_result_that_is_no_json_cannot_be_had() -> None:
    handle = tasks.returns.delay("object")
    assert handle.status == "succeeded"
    with pytest.raises(ResultError, match="is not JSON"):
        handle.get()


def test_retries_follow_at_once() -> None:
    assert tasks.flaky.delay(3).get() == 3
    assert tasks.tries == [1, 2, 3]


def test_a_failure_comes_out_of_get_and_not_out_of_delay() -> None:
    handle = tasks.flaky.delay(9)
    assert tasks.tries == [1, 2, 3]
    assert handle.status == "failed"
    with pytest.raises(TaskFailed, match="ValueError: not yet") as failure:
        handle.get()
    assert "tests/testing/tasks.py" in failure.value.traceback
    assert "django_taskq/" not in failure.value.traceback


def test_with_eager_propagates_the_error_itself_comes_out_of_delay() -> None:
    with override_taskq(EAGER_PROPAGATES=True):
        with pytest.raises(ValueError, match="not yet"):
            tasks.flaky.using(max_retries=0).delay(9)
        assert tasks.unwanted.delay().status == "discarded"


def test_coroutine_functions_run_too_wherever_they_are_sent() -> None:
    async def from_a_loop() -> int:
        return tasks.later.delay(1).get() + await (await tasks.later.adelay(2)).aget()

    assert tasks.later.delay(1).get() == 2
    assert asyncio.run(from_a_loop()) == 5


def test_an_idempotency_key_holds() -> None:
    call = tasks.remind.using(idempotency_key="order-7")
    first, second = call.delay("ada@example.com"), call.delay("grace@example.com")
    assert (second.created, second) == (False, first)
    assert second.get().startswith("ada")


def test_what_has_expired_does_not_run() -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert tasks.flaky.using(expires=past).delay(1).status == "expired"
    assert tasks.flaky.using(deadline=past).delay(1).status == "expired"
    assert tasks.tries == []


def test_run_after_is_not_waited_for() -> None:
    assert tasks.flaky.using(run_after=3600).delay(1).get() == 1


def test_each_call_of_a_batch_task_is_a_batch() -> None:
    handles = tasks.doubled.delay_many([((n,), {}) for n in (1, 2, 3)])
    assert [handle.get() for handle in handles] == [2, 4, 6]
    assert tasks.batches == [[1], [2], [3]]


def test_signals_are_sent_in_the_order_of_a_life() -> None:
    seen: list[tuple[str, Any]] = []
    names = ("task_enqueued", "task_started", "task_retried", "task_succeeded", "task_failed")
    receivers = {name: lambda sender, name=name, **fields: seen.append((name, fields.get("attempt"))) for name in names}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        tasks.flaky.delay(2)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert [name for name, _ in seen] == [
        "task_enqueued", "task_started", "task_retried", "task_started", "task_succeeded",
    ]  # fmt: skip


def test_middleware_goes_around_it() -> None:
    middleware.log.clear()
    with override_taskq(MIDDLEWARE=["tests.tasks.middleware.outer", "tests.tasks.middleware.inner"]):
        tasks.remind.delay("ada@example.com")
    assert middleware.log == [
        "outer before tests.testing.tasks.remind", "inner before tests.testing.tasks.remind", "inner after",
        "outer after",
    ]  # fmt: skip


@pytest.mark.django_db
def test_on_commit_waits_for_the_commit(django_capture_on_commit_callbacks: Any) -> None:
    handle = tasks.flaky.delay_on_commit(1)
    assert tasks.tries == []
    with django_capture_on_commit_callbacks(execute=True):
        handle = tasks.flaky.delay_on_commit(1)
        kept = tasks.through_outbox.delay(5)
        assert tasks.tries == []
    assert tasks.tries == [1]
    assert handle.status == "succeeded"
    assert kept.get() == 5


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_call_has_never_been() -> None:
    with transaction.atomic():
        tasks.flaky.delay_on_commit(1)
        tasks.through_outbox.delay(5)
        transaction.set_rollback(True)
    assert enqueued() == []
    with transaction.atomic():
        tasks.through_outbox.delay(5)
        assert enqueued() == []
    assert [call.status for call in enqueued()] == ["succeeded"]


def test_an_interrupt_of_the_test_run_is_not_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(email: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks.remind, "func", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tasks.remind.delay("ada@example.com")


def test_tasks_of_django_tasks_run_too() -> None:
    result = framework_tasks.add.enqueue(1, b=2)
    result.refresh()
    assert (result.status, result.return_value) == (Status.SUCCESSFUL, 3)
    assert asyncio.run(framework_tasks.add_soon.aenqueue(1)).id
    assert [call.name for call in enqueued()] == ["tests.backend.tasks.add", "tests.backend.tasks.add_soon"]
