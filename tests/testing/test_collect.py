"""TASKQ["MODE"] = "collect": calls are remembered, looked at, and run when the test says so."""

from __future__ import annotations

import datetime as dt
import inspect
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import TestCase

import django_taskq_pytest as pytest_plugin
from django_taskq import InvalidArguments, ResultTimeout
from django_taskq.testing import (
    TaskqTestCase,
    TaskqTransactionTestCase,
    assert_enqueued,
    assert_not_enqueued,
    clear_enqueued,
    enqueued,
    override_taskq,
    run_enqueued,
)
from tests.testing import tasks

taskq = pytest_plugin.taskq
collecting = pytest.mark.usefixtures("taskq")


@collecting
def test_a_call_is_found_by_its_arguments_however_they_were_passed() -> None:
    assert_not_enqueued()
    tasks.remind.delay("ada@example.com", due=dt.date(2026, 12, 1))
    tasks.remind.delay(email="grace@example.com")
    assert len(assert_enqueued(tasks.remind)) == 2
    (found,) = assert_enqueued(tasks.remind, args=("ada@example.com", dt.date(2026, 12, 1)), count=1)
    assert (found.args, found.kwargs) == (("ada@example.com",), {"due": dt.date(2026, 12, 1)})
    assert_enqueued(tasks.remind, kwargs={"email": "grace@example.com", "polite": True}, count=1)
    assert_not_enqueued(tasks.remind, args=("ada@example.com",))
    assert_not_enqueued(tasks.later)


@collecting
def test_a_call_is_found_by_how_it_was_sent() -> None:
    moment = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    tasks.later.using(priority=5, run_after=timedelta(minutes=5)).delay(1)
    tasks.later.using(run_after=moment).delay(2)
    assert_enqueued(tasks.later, run_after=timedelta(minutes=5), priority=5, queue_name="default", count=1)
    assert_enqueued(tasks.later, args=(2,), run_after=moment)
    assert_not_enqueued(tasks.later, run_after=timedelta(minutes=6))
    assert_not_enqueued(tasks.later, queue_name="mail")
    assert enqueued(tasks.later)[1].run_after == moment
    assert enqueued()[0].handle.status == "scheduled"


@collecting
def test_what_fails_lists_what_was_sent() -> None:
    with pytest.raises(AssertionError) as failure:
        assert_enqueued(tasks.later, args=(8,))
    assert str(failure.value) == "No call of tests.testing.tasks.later with args=(8,) was enqueued.\nNothing was."
    tasks.later.using(priority=3).delay(7)
    with pytest.raises(AssertionError) as failure:
        assert_enqueued(tasks.later, args=(8,), priority=3)
    assert "with args=(8,), priority=3 was enqueued.\nEnqueued were:\n  1. tests.testing.tasks.later(7)" in str(
        failure.value
    )
    with pytest.raises(AssertionError, match="1 calls instead of 2"):
        assert_enqueued(tasks.later, count=2)
    with pytest.raises(AssertionError, match="1 call"):
        assert_not_enqueued(tasks.later, args=(7,))
    with pytest.raises(InvalidArguments, match="missing a required argument"):
        assert_enqueued(tasks.later, args=())


@collecting
def test_nothing_runs_before_the_test_says_so() -> None:
    tasks.tries.clear()
    handle = tasks.flaky.delay(2)
    assert handle.status == "queued"
    with pytest.raises(ResultTimeout, match="run_enqueued"):
        handle.get(timeout=60)
    assert run_enqueued() == [handle]
    assert handle.get() == 2
    assert tasks.tries == [1, 2]
    assert run_enqueued() == []


@collecting
def test_what_a_task_sends_is_run_too_highest_priority_first() -> None:
    low, high = tasks.parent.using(priority=-1).delay(0), tasks.parent.using(priority=1).delay(2)
    handles = run_enqueued()
    assert (handles[0], handles[-1], len(handles)) == (high, low, 4)
    tasks.for_ever.delay()
    with pytest.raises(AssertionError, match=r"has run 20 calls, and .*for_ever waits"):
        run_enqueued(limit=20)


@collecting
def test_only_some_are_run() -> None:
    tasks.later.using(run_after=60).delay(1)
    tasks.parent.delay(0)
    tasks.remind.delay("ada@example.com")
    assert len(run_enqueued(tasks.parent)) == 1
    assert [handle.status for handle in run_enqueued(scheduled=False)] == ["succeeded"]
    assert [call.status for call in enqueued()] == ["scheduled", "succeeded", "succeeded"]


@collecting
def test_calls_of_a_batch_task_are_run_together() -> None:
    tasks.batches.clear()
    handles = tasks.doubled.delay_many([((n,), {}) for n in (1, 2, 3)])
    run_enqueued()
    assert tasks.batches == [[1, 2], [3]]
    assert [handle.get() for handle in handles] == [2, 4, 6]


@collecting
def test_what_is_cancelled_does_not_run() -> None:
    handle = tasks.later.delay(1)
    assert handle.cancel() is True
    assert run_enqueued() == []
    assert handle.status == "cancelled"
    assert handle.cancel() is None


@collecting
def test_an_idempotency_key_is_free_again_after_a_failure() -> None:
    call = tasks.flaky.using(idempotency_key="k", max_retries=0)
    assert call.delay(2) == call.delay(2)
    run_enqueued()
    assert call.delay(1).created
    clear_enqueued()
    assert enqueued() == []


def test_in_mode_broker_there_is_nothing_to_look_at() -> None:
    with pytest.raises(ImproperlyConfigured, match="TaskqTestCase"):
        assert_not_enqueued()


class TestCases(TaskqTestCase):
    """Runs as a project's own would."""

    @classmethod
    def setUpTestData(cls) -> None:
        tasks.later.delay(0)

    def test_begins_with_nothing(self) -> None:
        self.assert_not_enqueued()

    def test_on_commit_needs_captured_callbacks(self) -> None:
        tasks.later.delay_on_commit(1)
        self.assert_not_enqueued()
        with self.captureOnCommitCallbacks(execute=True):
            handle = tasks.later.delay_on_commit(2)
            self.assert_not_enqueued()
        self.assert_enqueued(tasks.later, args=(2,), count=1)
        self.run_enqueued()
        assert handle.get() == 3


class TestTransactions(TaskqTransactionTestCase):
    taskq_mode = "eager"

    def test_on_commit_is_at_the_commit(self) -> None:
        assert tasks.later.delay_on_commit(1).get() == 2
        assert len(self.enqueued()) == 1


class TestPlainCases(TestCase):
    def test_the_decorator_does_as_well(self) -> None:
        with override_taskq(MODE="eager"):
            assert tasks.later.delay(1).get() == 2


def test_the_fixture_hands_out_all_there_is(taskq: Any) -> None:
    assert taskq.assert_enqueued is assert_enqueued
    assert all(inspect.isclass(getattr(taskq, name)) or callable(getattr(taskq, name)) for name in taskq.__all__)
