"""From a delivery's fields to its settlement, without Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome
from django_taskq.exceptions import Retry, TaskCancelled, TaskTimeout
from django_taskq.signals import task_started
from django_taskq.worker.batches import Batch
from django_taskq.worker.executor import Executor
from django_taskq.worker.tally import Tally
from django_taskq.worker.telling import name_of
from django_taskq.worker.work import Work
from tests.worker import tasks
from tests.worker.inside import delivery_of, delivery_with, kind_of, new_executor, outcome_in

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def executor() -> Executor:
    return new_executor()


def prepared(executor: Executor, delivery: Delivery) -> Work:
    work = executor.prepare(delivery)
    assert isinstance(work, Work)
    return work


def ended(executor: Executor, delivery: Delivery) -> Outcome:
    settlement = executor.prepare(delivery)
    assert isinstance(settlement, Settlement)
    return outcome_in(settlement)


def message_in(settlement: Settlement) -> Message:
    """The next attempt's message in a `retry`."""
    fields = settlement.arguments[4:]
    return Message.decode([field.encode() if isinstance(field, str) else field for field in fields])


def test_what_a_call_may_override_counts_before_what_the_task_declares(executor: Executor) -> None:
    options = {"timeout": 5, "hard_timeout": 9.5, "max_retries": 7}
    work = prepared(executor, delivery_of(tasks.works, "x", 1, options=options))
    assert (work.timeout, work.hard_timeout, work.context.max_retries) == (5, 9.5, 7)
    assert work.context.deadline == work.started + 5
    plain = prepared(executor, delivery_of(tasks.works, "x", 1))
    assert (plain.timeout, plain.hard_timeout, plain.context.max_retries) == (300, None, 0)
    unlimited = prepared(executor, delivery_of(tasks.works, "x", 1, options={"timeout": None}))
    assert unlimited.context.deadline is None


def test_lost_workers_are_counted_and_remembered(executor: Executor) -> None:
    work = prepared(executor, delivery_of(tasks.works, "x", 1, losses=1))
    assert (work.context.losses, work.context.attempt) == (1, 1)
    assert [attempt.how for attempt in work.message.history] == ["worker_lost"]


@pytest.mark.parametrize(("before", "now"), [(0, 3), (2, 1), (1, 5)])
def test_the_third_loss_buries(executor: Executor, before: int, now: int) -> None:
    delivery = delivery_of(tasks.works, "x", 1)
    delivery.losses = now
    delivery.fields += [b"l", b"%d" % before]
    outcome = ended(executor, delivery)
    assert (outcome.status, outcome.reason, outcome.losses) == ("failed", "worker_lost", before + now)


def test_a_request_to_cancel_comes_before_everything_else(executor: Executor) -> None:
    delivery = delivery_of(tasks.works, "x", 1, losses=5, cancelled=True, expires=1)
    assert ended(executor, delivery).status == "cancelled"


def test_an_expired_first_start_is_not_run_and_a_later_attempt_is(executor: Executor) -> None:
    past = int((executor.clock.now() - 1) * 1000)
    assert ended(executor, delivery_of(tasks.works, "x", 1, expires=past)).status == "expired"
    prepared(executor, delivery_of(tasks.works, "x", 1, expires=past + 60_000))
    prepared(executor, delivery_of(tasks.works, "x", 1, expires=past, first_started=past - 1))


def test_a_retry_carries_what_happened(executor: Executor) -> None:
    headers = {"tenant": "7"}
    delivery = delivery_of(tasks.fails, "x", 9, losses=1, headers=headers, options={"timeout": 3}, idempotency_key="k")
    settlement = executor.failed(prepared(executor, delivery), ValueError("x"))
    assert (kind_of(settlement), settlement.arguments[1]) == ("retry", 100)
    message = message_in(settlement)
    assert (message.attempt, message.losses, message.headers, message.options) == (1, 1, headers, {"timeout": 3})
    assert (message.idempotency_key, message.worker_ids) == ("k", ["host-1-test"])
    assert [attempt.how for attempt in message.history] == ["worker_lost", "retry"]
    assert message.enqueued == int(delivery.entry.split(b"-")[0])
    assert message.first_started is not None


def test_the_last_ten_attempts_and_workers_are_kept(executor: Executor) -> None:
    history = [Attempt(number, 1.0, 2.0, "w", "retry") for number in range(1, 11)]
    before = {"history": history, "attempt": 10, "worker_ids": [f"w{number}" for number in range(500)]}
    delivery = delivery_of(tasks.fails, "x", 9, options={"max_retries": 11}, **before)
    message = message_in(executor.failed(prepared(executor, delivery), ValueError("x")))
    assert [attempt.number for attempt in message.history] == list(range(2, 12))
    ten = [*(f"w{number}" for number in range(491, 500)), "host-1-test"]
    assert message.worker_ids == ten
    delivery = delivery_of(tasks.fails, "x", 9, **before)
    assert outcome_in(executor.failed(prepared(executor, delivery), ValueError("x"))).worker_ids == ten
    delivery = delivery_of(tasks.fails, "x", 9, **before)
    assert outcome_in(executor.succeeded(prepared(executor, delivery), 1)).worker_ids == ten


@pytest.mark.parametrize(
    ("error", "kind"), [(TaskTimeout(), "failed"), (TaskCancelled(), "cancelled"), (ValueError(), "failed")]
)
def test_how_a_run_ends_by_what_it_raised(executor: Executor, error: BaseException, kind: str) -> None:
    assert kind_of(executor.concluded(prepared(executor, delivery_of(tasks.works, "x", 1)), None, error)) == kind


class Unspeakable:
    """Nothing can be done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


RESULTS: dict[str, Callable[[], Any]] = {
    "object": object,
    "surrogate": lambda: "\ud800",
    "keys": lambda: {(1, 2): object()},
    "nan": lambda: float("nan"),
    "integer": lambda: 10**5_000,
    "list": lambda: [[[]]] * 3,
    "unspeakable": Unspeakable,
}


@pytest.mark.parametrize("kind", RESULTS)
def test_whatever_a_task_returns_it_has_succeeded(executor: Executor, kind: str) -> None:
    result = RESULTS[kind]()
    settlement = executor.concluded(prepared(executor, delivery_of(tasks.works, "x", 1)), result, None)
    outcome = outcome_in(settlement)
    assert outcome.status == "succeeded"
    assert (outcome.result is None) == bool(outcome.result_error)


def test_an_end_that_cannot_be_described_is_a_dead_letter_and_the_log_names_the_task(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of the worker itself")

    work = prepared(executor, delivery_of(tasks.works, "x", 1))
    monkeypatch.setattr("django_taskq.worker.executor.succeeded_outcome", broken)
    outcome = outcome_in(executor.concluded(work, 1, None))
    assert (outcome.status, outcome.error_message) == ("failed", "a fault of the worker itself")
    assert f"{tasks.works.name} {work.context.id} (entry " in caplog.text


def test_the_log_names_a_delivery_by_task_id_and_entry_as_far_as_they_can_be_read() -> None:
    first, second = delivery_of(tasks.works, "x", 1), delivery_of(tasks.works, "x", 2)
    id, entry = id_to_str(first.fields[1]), first.location.decode()
    assert name_of(first) == f"{tasks.works.name} {id} (entry {entry})"
    batch = Batch([first, second], 0.0, print, lambda: None)
    assert name_of(batch) == f"{tasks.works.name} {id} (entry {entry}) and 1 more calls of its batch"
    broken = delivery_with(["no", "message"])
    assert name_of(broken) == f"unreadable message (entry {broken.location.decode()})"


@pytest.mark.parametrize(
    ("setting", "task", "call", "run", "recorded"),
    [
        ("all", None, None, 1, True),
        ("failures", None, None, 1, False),
        ("failures", "all", None, 1, True),
        ("all", None, "failures", 1, False),
        ("failures", None, "all", 1, True),
        ("failures", None, None, 2, True),
    ],
)
def test_which_successes_become_rows(
    setting: str, task: str | None, call: str | None, run: int, recorded: bool, settings: SettingsWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.TASKQ = {**settings.TASKQ, "RECORD": setting}
    tasks.works.verify()  # it reads the settings now
    if task is not None:
        monkeypatch.setitem(tasks.works.__dict__, "record", task)
    executor = new_executor()
    work = prepared(executor, delivery_of(tasks.works, "x", 1, run=run, options={"record": call} if call else {}))
    assert outcome_in(executor.succeeded(work, "x")).recorded is recorded
    failed = outcome_in(executor.failed(work, ValueError()))
    assert failed.recorded


def test_a_receiver_that_exits_does_not_end_the_thread(executor: Executor) -> None:
    def leave(sender: Any, **_: Any) -> None:
        raise SystemExit

    task_started.connect(leave)
    try:
        prepared(executor, delivery_of(tasks.works, "x", 1))
    finally:
        task_started.disconnect(leave)


# --- deadlines --------------------------------------------------------------------------------------------------------


def ms_from_now(executor: Executor, seconds: float) -> int:
    return int((executor.clock.now() + seconds) * 1000)


def test_a_deadline_bounds_the_start(executor: Executor) -> None:
    outcome = ended(executor, delivery_of(tasks.works, "x", 1, deadline=ms_from_now(executor, -1)))
    assert (outcome.status, outcome.reason) == ("expired", "It did not start before its deadline.")


def test_what_had_started_before_its_deadline_is_a_dead_letter_after_it(executor: Executor) -> None:
    past = ms_from_now(executor, -1)
    outcome = ended(executor, delivery_of(tasks.works, "x", 1, deadline=past, first_started=past - 1, attempt=1))
    assert (outcome.status, outcome.reason, outcome.attempts) == ("failed", "deadline", 1)
    delivery = delivery_of(tasks.works, "x", 1, deadline=past)
    delivery.losses = 1
    assert ended(executor, delivery).reason == "deadline"


def test_the_time_limit_ends_at_the_deadline(executor: Executor) -> None:
    work = prepared(executor, delivery_of(tasks.works, "x", 1, deadline=ms_from_now(executor, 10)))
    assert work.context.remaining == pytest.approx(10, abs=0.1)
    assert work.timeout == pytest.approx(10, abs=0.1)
    far = prepared(executor, delivery_of(tasks.works, "x", 1, deadline=ms_from_now(executor, 100_000)))
    assert far.context.remaining == pytest.approx(tasks.works.timeout, abs=0.1)
    endless = delivery_of(tasks.works, "x", 1, deadline=ms_from_now(executor, 10), options={"timeout": None})
    assert prepared(executor, endless).context.remaining == pytest.approx(10, abs=0.1)


def test_no_attempt_is_planned_for_after_the_deadline(executor: Executor) -> None:
    work = prepared(executor, delivery_of(tasks.fails, "x", 9, deadline=ms_from_now(executor, 30)))
    assert kind_of(executor.failed(work, Retry(delay=5))) == "retry"
    work = prepared(executor, delivery_of(tasks.fails, "x", 9, deadline=ms_from_now(executor, 30)))
    outcome = outcome_in(executor.failed(work, Retry(delay=31)))
    assert (outcome.status, outcome.reason, outcome.attempts) == ("failed", "deadline", 1)


def test_a_retry_keeps_the_deadline(executor: Executor) -> None:
    deadline = ms_from_now(executor, 30)
    settlement = executor.failed(prepared(executor, delivery_of(tasks.fails, "x", 9, deadline=deadline)), Retry(1))
    assert message_in(settlement).deadline == deadline


def test_an_attempt_that_is_handed_on_has_started(executor: Executor) -> None:
    work = prepared(executor, delivery_of(tasks.works, "x", 1, deadline=ms_from_now(executor, 30)))
    settlement = executor.handed_on(work)
    assert message_in(settlement).first_started is not None
    counts = Tally()
    counts.settled([settlement])
    assert counts.take().ended == {}  # to the metrics it is no attempt that failed
