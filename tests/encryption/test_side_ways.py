"""The side ways out of a sealed task: log lines, progress, local variables, and what was there before it was sealed."""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING

import pytest

from django_taskq import BreakerOpen, KeyMissing, Undecryptable
from django_taskq.core.fields import unpack_fields
from django_taskq.core.message import Attempt, Message
from django_taskq.core.progress import Progress
from django_taskq.core.sealing import new_key, parse_key
from django_taskq.exceptions import HardTimeout
from django_taskq.keyring import get_keyring
from django_taskq.sealed import opened_message
from django_taskq.worker import hard_limits
from django_taskq.worker.batches import Batch, BatchWork
from django_taskq.worker.executor import Executor
from django_taskq.worker.work import Work
from tests.encryption.conftest import K1, with_keys
from tests.encryption.records import sealed_message
from tests.encryption.tasks import SECRET, charge, decline, plain, together
from tests.worker.inside import delivery_of, delivery_with, kind_of, new_executor, outcome_in

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def executor() -> Executor:
    return new_executor()


def prepared(executor: Executor, message: Message) -> Work:
    work = executor.prepare(delivery_with(message.fields()))
    assert isinstance(work, Work)
    return work


class Place:
    worker = "w"
    told: Progress | None = None

    def report(self, context: object, progress: Progress) -> None:
        self.told = progress


@pytest.mark.parametrize("task", [charge, plain])  # one that encrypts, and one that did when the call was sent
def test_the_words_of_a_progress_stay_here(executor: Executor, task: object) -> None:
    """They would go to Redis with the worker's beat."""
    place, context = Place(), prepared(executor, sealed_message(task)).context
    context.place = place
    context.progress(1, 2, SECRET)
    assert place.told == Progress(1.0, 2.0, "")


@pytest.mark.parametrize("task", [charge, plain])
def test_a_fault_of_the_worker_tells_nothing(
    executor: Executor, task: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the dead letter nor in the log: an error of the project's own code has its text in it."""

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    work = prepared(executor, sealed_message(task))
    monkeypatch.setattr(executor, "succeeded", breaks)
    settlement = executor.concluded(work, [SECRET], None)
    settlement.then()
    outcome = outcome_in(settlement)
    assert (outcome.reason, outcome.error_class) == ("malformed", "RuntimeError")
    assert SECRET not in repr(outcome)
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_batch_that_fails_tells_nothing(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    deliveries = [delivery_with(sealed_message(together).fields()) for _ in range(2)]
    work = executor.prepare(Batch(deliveries, time.monotonic(), [].append, lambda: None))
    assert isinstance(work, BatchWork)
    assert [call.item for call in work.calls] == [SECRET] * 2
    settlements = executor.concluded(work, None, ValueError(SECRET))
    for settlement in settlements:
        settlement.then()
    assert len(settlements) == caplog.text.count("ValueError") == 2
    assert SECRET not in caplog.text + repr([settlement.arguments for settlement in settlements])


def test_what_an_open_breaker_says_stays_out_of_the_log(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_taskq")
    executor.failed(prepared(executor, sealed_message(charge)), BreakerOpen(f"no {SECRET}", breaker="bank", seconds=5))
    assert "put off" in caplog.text
    assert SECRET not in caplog.text


def test_earlier_attempts_of_a_plain_call_are_sealed_with_it(executor: Executor, keys: SettingsWrapper) -> None:
    """It failed once before the task had encrypt=True, and its history says why."""
    with_keys(keys, {"k1": K1}, ENCRYPTION_ACCEPT_PLAIN=True)
    history = [Attempt(1, 0.0, 1.0, "w", "retry", "ValueError", SECRET, f"File {SECRET}", SECRET)]
    delivery = delivery_of(decline, SECRET, attempt=1, history=history, later=["zz", "of a later version"])
    work = executor.prepare(delivery)
    assert isinstance(work, Work)
    assert SECRET.encode() not in b"".join(delivery.fields)
    assert delivery.fields[-2:] == [b"zz", b"of a later version"]
    outcome = outcome_in(executor.failed(work, ValueError(SECRET)))
    assert SECRET not in repr(outcome)
    assert len(outcome.history) == 2


def test_a_refused_plain_call_leaves_no_history_in_the_columns(executor: Executor) -> None:
    history = [Attempt(1, 0.0, 1.0, "w", "retry", "ValueError", SECRET, "", "")]
    outcome = outcome_in(executor.prepare(delivery_of(charge, SECRET, attempt=1, history=history)))
    outcome.raw = b""  # which can be requeued once plain calls are allowed
    assert outcome.reason == "unsealed"
    assert SECRET not in repr(outcome)


def test_a_plain_call_that_ends_before_its_run_is_sealed_all_the_same(
    executor: Executor, keys: SettingsWrapper
) -> None:
    with_keys(keys, {"k1": K1}, ENCRYPTION_ACCEPT_PLAIN=True)
    history = [Attempt(1, 0.0, 1.0, "w", "retry", "ValueError", SECRET, "", "")]
    lost = outcome_in(executor.prepare(delivery_of(charge, SECRET, attempt=1, history=history, losses=3)))
    expired = outcome_in(executor.prepare(delivery_of(charge, SECRET, expires=1, history=history)))
    assert (lost.reason, expired.status) == ("worker_lost", "expired")
    assert SECRET not in repr([lost, expired])
    assert opened_message(Message.decode(unpack_fields(lost.raw))).args == f'["{SECRET}"]'.encode()


def test_a_plain_call_whose_process_was_killed_is_sealed_by_the_supervisor(
    executor: Executor, keys: SettingsWrapper
) -> None:
    with_keys(keys, {"k1": K1}, ENCRYPTION_ACCEPT_PLAIN=True)
    for attempt, kind in ((0, "retry"), (1, "failed")):
        work = hard_limits._work(delivery_of(decline, SECRET, attempt=attempt), time.monotonic())
        assert work is not None
        settlement = executor.concluded(work, None, HardTimeout())
        assert kind_of(settlement) == kind
        assert SECRET not in repr(settlement.arguments)


# --- local variables: error reporters send those of each frame --------------------------------------------------------


def variables_of(error: BaseException) -> str:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    here = [frame.f_locals for frame in frames if "/django_taskq/" in frame.f_code.co_filename]
    assert here
    return repr(here)


def forms(key: str) -> list[str]:
    return [key, repr(parse_key(key))]


@pytest.fixture
def key() -> str:
    return new_key()


def test_no_frame_of_an_error_holds_a_key(keys: SettingsWrapper, key: str) -> None:
    with_keys(keys, {"k1": key})
    altered = sealed_message(charge)
    altered.task = decline.name
    with pytest.raises(Undecryptable) as raised:
        opened_message(altered)
    assert not any(form in variables_of(raised.value) for form in forms(key))


def test_a_key_that_cannot_be_read_is_in_no_frame_either(keys: SettingsWrapper, key: str) -> None:
    for broken in (key[:-5], f"{key}AAAA", lambda: key[:-5]):
        with_keys(keys, {"k1": key, "k2": broken})
        with pytest.raises(KeyMissing) as raised:
            get_keyring()
        assert not any(form in variables_of(raised.value) for form in (*forms(key), key[:-5]))
