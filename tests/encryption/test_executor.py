"""What a worker does with sealed calls that it can open, that it cannot, and that should be sealed and are not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.core.fields import unpack_fields
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.sealing import new_key
from django_taskq.exceptions import HardTimeout
from django_taskq.opening import shown_message, shown_outcome
from django_taskq.sealed import MARK, UNKEPT, seal_call
from django_taskq.worker.executor import Executor
from django_taskq.worker.work import Work
from tests.encryption.conftest import K1, K2, with_keys
from tests.encryption.tasks import SECRET, charge, decline, forgotten, plain
from tests.worker.inside import delivery_of, delivery_with, kind_of, new_executor, outcome_in
from tests.worker.test_executor import message_in

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

SEALED = f'["{SECRET}"]'.encode()


@pytest.fixture
def executor() -> Executor:
    return new_executor()


def message_of(task: str = charge.name, args: bytes = SEALED, **fields: Any) -> Message:
    message = Message(new_id(), task, args, **fields)
    seal_call(message)
    return message


def delivery_for(message: Message, **more: Any) -> Delivery:
    return delivery_with(message.fields(), **more)


def buried(executor: Executor, delivery: Delivery) -> Outcome:
    settlement = executor.prepare(delivery)
    assert isinstance(settlement, Settlement)
    outcome = outcome_in(settlement)
    assert outcome.status == "failed"
    assert SECRET not in repr(outcome)
    return outcome


def run(executor: Executor, delivery: Delivery) -> Work:
    work = executor.prepare(delivery)
    assert isinstance(work, Work), outcome_in(work)
    return work


def test_it_is_opened_for_the_run_only(executor: Executor) -> None:
    work = run(executor, delivery_for(message_of()))
    assert work.args == (SECRET,)
    assert SECRET.encode() not in work.message.args
    outcome = outcome_in(executor.succeeded(work, [SECRET]))
    assert SECRET not in repr(outcome)
    assert shown_outcome(outcome, may=True).result == f'["{SECRET}"]'.encode()


def test_a_call_of_another_task_is_refused(executor: Executor) -> None:
    """Somebody with access to Redis puts what was sealed for one task into another, and into another id."""
    of_other = message_of(decline.name)
    of_other.task = charge.name
    assert buried(executor, delivery_for(of_other)).reason == "undecryptable"
    moved = message_of()
    moved.id = new_id()
    outcome = buried(executor, delivery_for(moved))
    assert (outcome.reason, outcome.error_class) == ("undecryptable", "django_taskq.exceptions.Undecryptable")
    assert "altered" in outcome.error_message


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "kwargs"])
def test_an_altered_call_is_a_dead_letter_with_its_raw_message(executor: Executor, how: str) -> None:
    message = message_of()
    if how == "cut":
        message.args = message.args[:-9] + b'"'
    elif how == "flipped":
        message.args = message.args[:-9] + (b"A" if message.args[-9:-8] != b"A" else b"B") + message.args[-8:]
    elif how == "empty":
        message.args = MARK
    else:
        message.kwargs = b'{"day":null}'
    outcome = buried(executor, delivery_for(message))
    assert outcome.reason == "undecryptable"
    assert message.args in unpack_fields(outcome.raw)


def test_a_missing_key_waits_for_a_worker_that_has_it(executor: Executor, keys: SettingsWrapper) -> None:
    message = message_of()
    with_keys(keys, {"k2": K2})
    waiting = executor.prepare(delivery_for(message, losses=1))
    assert isinstance(waiting, Settlement)
    assert kind_of(waiting) == "retry"
    back = message_in(waiting)
    assert (back.args, back.attempt, back.losses) == (message.args, 0, 1)
    fields = [*message.fields(), "g", str(int((time.time() - 601) * 1000))]
    outcome = buried(executor, delivery_with(fields))
    assert outcome.reason == "undecryptable"
    assert "'k1'" in outcome.error_message
    with_keys(keys, {"k2": K2, "k1": K1})
    assert run(executor, delivery_with(fields)).args == (SECRET,)


def test_a_plain_call_is_refused(executor: Executor) -> None:
    settlement = executor.prepare(delivery_of(charge, SECRET))
    assert isinstance(settlement, Settlement)
    outcome = outcome_in(settlement)
    raw, outcome.raw = outcome.raw, b""
    assert SECRET.encode() in raw  # which can be requeued once plain calls are allowed
    assert SECRET not in repr(outcome)
    assert (outcome.reason, outcome.error_class) == ("unsealed", "django_taskq.exceptions.Unsealed")


def test_a_plain_call_runs_while_that_is_allowed_and_is_sealed_from_then_on(
    executor: Executor, keys: SettingsWrapper
) -> None:
    with_keys(keys, {"k1": K1}, ENCRYPTION_ACCEPT_PLAIN=True)
    work = run(executor, delivery_of(decline, SECRET))
    again = executor.failed(work, ValueError(SECRET))
    assert SECRET not in repr(again.arguments)
    assert message_in(again).attempt == 1
    work = run(executor, delivery_with(message_in(again).fields()))
    outcome = outcome_in(executor.failed(work, ValueError(SECRET)))
    assert (outcome.status, outcome.reason) == ("failed", "failed")
    assert SECRET not in repr(outcome)
    assert SECRET.encode() not in outcome.raw
    opened = shown_outcome(outcome, may=True)
    assert (opened.error_message, opened.args) == (SECRET, SEALED)
    assert SECRET in opened.traceback
    assert [each.error_message for each in opened.history] == [SECRET, SECRET]


def test_wrong_arguments_tell_nothing(executor: Executor) -> None:
    outcome = buried(executor, delivery_for(message_of(args=f'["{SECRET}", "{SECRET}"]'.encode())))
    assert outcome.reason == "invalid_arguments"
    assert "positional" in shown_outcome(outcome, may=True).error_message


def test_the_history_between_attempts_opens_for_its_own_attempt_only(executor: Executor) -> None:
    work = run(executor, delivery_for(message_of(decline.name)))
    message = message_in(executor.failed(work, ValueError(SECRET)))
    assert shown_message(message, may=True).history[0].error_message == SECRET
    message.history[0].number = 2
    assert "altered" in shown_message(message, may=True).history[0].error_message


def test_a_killed_attempt_is_sealed_by_the_supervisor(executor: Executor) -> None:
    delivery = delivery_for(message_of(decline.name))
    message = Message.decode(delivery.fields)
    settlement = executor.concluded(Work(delivery, message, decline, time.monotonic()), None, HardTimeout(SECRET))
    assert isinstance(settlement, Settlement)
    assert SECRET not in repr(settlement.arguments)


def test_without_a_key_to_seal_with_nothing_of_the_run_is_kept(executor: Executor, keys: SettingsWrapper) -> None:
    """A worker whose newest key cannot be read opens with the old one."""
    message = message_of()
    with_keys(keys, {"k3": None, "k1": K1})
    outcome = outcome_in(executor.succeeded(run(executor, delivery_for(message)), [SECRET]))
    assert (outcome.result, outcome.result_error, outcome.args) == (None, UNKEPT, message.args)
    failed = outcome_in(executor.refused(run(executor, delivery_for(message)), ValueError(SECRET)))
    assert (failed.error_message, failed.traceback, failed.raw.count(message.args)) == (UNKEPT, "", 1)


def test_an_unrecorded_success_can_be_opened(executor: Executor) -> None:
    outcome = outcome_in(executor.succeeded(run(executor, delivery_for(message_of(forgotten.name))), SECRET))
    assert not outcome.recorded
    assert SECRET not in repr(outcome)
    assert shown_outcome(outcome, may=True).result == f'"{SECRET}"'.encode()


def test_a_task_that_encrypts_no_more_runs_what_was_sealed(executor: Executor) -> None:
    work = run(executor, delivery_for(message_of(plain.name)))
    assert work.args == (SECRET,)
    assert SECRET not in repr(outcome_in(executor.succeeded(work, SECRET)))


def test_a_fault_of_the_worker_itself_tells_nothing(executor: Executor) -> None:
    outcome = outcome_in(executor.broken(delivery_for(message_of()), RuntimeError(SECRET)))
    assert outcome.reason == "malformed"
    assert SECRET not in repr(outcome)


def test_a_key_file_may_come_and_go(executor: Executor, keys: SettingsWrapper, tmp_path: Any) -> None:
    file = tmp_path / "key"
    with_keys(keys, {"k1": f"file:{file}"})
    settlement = executor.prepare(delivery_with([*_sealed_elsewhere()]))
    assert isinstance(settlement, Settlement)
    assert kind_of(settlement) == "retry"
    file.write_text(f"{new_key()}\n")
    assert run(executor, delivery_for(message_of())).args == (SECRET,)


def _sealed_elsewhere() -> list[bytes | str]:
    return ["i", new_id(), "t", charge.name, "a", b'"$sealed:1:k1:AAAA"']
