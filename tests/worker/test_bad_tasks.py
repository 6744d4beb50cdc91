"""Whatever a task raises, or a message holds, ends as a failed attempt or a dead letter; the worker lives on."""

from __future__ import annotations

from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.broker.submission import Submission
from django_taskq.core.fields import unpack_fields
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.exceptions import ResultError, TaskFailed
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger

pytestmark = pytest.mark.usefixtures("running")

ERRORS = {
    "no str": ("tests.worker.tasks.Hostile", "its str() raised"),
    "no repr": ("tests.worker.tasks.Hostile", "its str() raised"),
    "str is no text": ("tests.worker.tasks.Hostile", "its str() raised"),
    "strange notes": ("tests.worker.tasks.Hostile", "hostile"),
    "strange class": ("tests.worker.tasks.Hostile", "hostile"),
    "no name": ("<a class without a name>", "hostile"),
    "circle": ("ValueError", "round"),
    "huge": ("ValueError", "xxx\n... 9996000 characters left out ...\nxxx"),
    "exit": ("SystemExit", "3"),
    "interrupt": ("KeyboardInterrupt", ""),
    "generator": ("GeneratorExit", ""),
    "memory": ("MemoryError", ""),
    "recursion": ("RecursionError", "maximum recursion depth exceeded"),
    "surrogates": (r"m\ud800.Odd", r"bad \ud800 text"),
    "nul": ("ValueError", "a\0b"),
    "timeout": ("django_taskq.exceptions.TaskTimeout", "time limit"),
    "cancelled error": ("asyncio.exceptions.CancelledError", ""),
    "group": ("BaseExceptionGroup", "both (2 sub-exceptions)"),
    "unpicklable": ("tests.worker.tasks.Local", "local"),
}


RETURNED = [
    "nested", "surrogate", "nul", "nan", "infinity", "huge integer", "bytes", "object", "hostile dict", "keys",
    "generator", "exception", "large",
]  # fmt: skip


def failure_of(handle: TaskHandle[Any]) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        handle.get(timeout=10)
    return caught.value


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("task", [tasks.raises, tasks.raises_async, tasks.raises_in_a_subtask])
def test_whatever_a_task_raises_is_a_failed_attempt(task: Any, kind: str, running: WorkerProcess) -> None:
    pids = running.children()
    failure = failure_of(task.delay(kind))
    assert failure.status == "failed"
    assert failure.error_class == ERRORS[kind][0]
    assert ERRORS[kind][1] in failure.error_message
    assert failure.error_class.rpartition(".")[2] in failure.traceback or kind in tasks.HOSTILE
    assert len(failure.traceback) <= 31_000
    assert tasks.my_pid.delay().get(timeout=5) in pids
    assert running.children() == pids


def test_whatever_a_task_raises_is_retried_and_then_kept(running: WorkerProcess) -> None:
    """It survives the way into the message of the next attempt and back."""
    pids = running.children()
    handles = {kind: tasks.raises_twice.delay(kind) for kind in ERRORS}
    for kind, handle in handles.items():
        failure_of(handle)
        outcome = ended(handle._id)
        history = [(attempt.number, attempt.how, attempt.error_class) for attempt in outcome.history]
        how = "timeout" if kind == "timeout" else "failed"
        assert history == [(1, "retry", ERRORS[kind][0]), (2, how, ERRORS[kind][0])], kind
        assert all(len(attempt.traceback) <= 2_100 for attempt in outcome.history)
    assert running.children() == pids


def test_whatever_a_task_returns_it_has_succeeded(running: WorkerProcess) -> None:
    pids = running.children()
    kept = {"nul": "a\0b", "bytes": "//4=", "hostile dict": {"a": 1}}
    for kind, handle in {kind: tasks.returns.delay(kind) for kind in RETURNED}.items():
        outcome = ended(handle._id)
        assert (kind, outcome.status, outcome.attempts) == (kind, "succeeded", 1)
        if kind in kept:
            assert handle.get(timeout=5) == kept[kind]
        else:
            assert outcome.result is None, kind
            assert outcome.result_error, kind
            with pytest.raises(ResultError):
                handle.get(timeout=5)
    assert running.children() == pids


def test_stop_iteration_in_a_thread_is_a_failed_attempt() -> None:
    assert failure_of(tasks.raises.delay("stop")).error_class == "StopIteration"


def test_a_discard_with_a_strange_reason_still_discards() -> None:
    odd, number = tasks.raises.delay("discard"), tasks.raises.delay("discard int")
    assert [failure_of(handle).status for handle in (odd, number)] == ["discarded", "discarded"]


def send(*fields: bytes | str, queue: str = "default") -> None:
    """A bare XADD, as a foreign producer may send it, and a token to wake a worker."""
    broker = get_broker()
    broker.connections.execute("XADD", broker.keys.lane(queue, 0), "*", *fields)
    broker.connections.execute("RPUSH", broker.keys.queue(queue).wake, "")


def outcomes() -> list[Outcome]:
    return [outcome for _, outcome in get_broker().read_outcomes("0-0", 100_000) if outcome is not None]


def buried() -> list[Outcome]:
    return [outcome for outcome in outcomes() if outcome.reason == "malformed"]


def outcome_of(id: bytes) -> Outcome | None:
    found = get_broker().find([id])[0]
    return found.outcome


def ended(id: bytes) -> Outcome:
    outcome = wait_for(lambda: outcome_of(id), 8)
    assert outcome is not None
    return outcome


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (b"[]", b"{}"),
        (b'["1.5", "no date"]', b"{}"),
        (b'["1.5"]', b'{"when": "2026-01-01T00:00:00Z", "extra": 1}'),
        (b"{}", b"{}"),
        (b'["1.5"', b"{}"),
        (b"", b""),
        (b'["\xff\xfe"]', b"{}"),
        (b"[" * 10_000 + b"]" * 10_000, b"{}"),
        (b'["1.5", 1' + b"0" * 5_000 + b"]", b"{}"),
        (b'["\\ud800", "x"]', b"{}"),
        (b"[NaN, Infinity]", b"{}"),
        (b'[null, {"a": "\\u0000"}]', b"{}"),
    ],
)
def test_arguments_that_do_not_fit_are_buried_without_retry(args: bytes, kwargs: bytes) -> None:
    id = new_id()
    send("i", id, "t", "tests.worker.tasks.double", "a", args, "k", kwargs)
    outcome = ended(id)
    assert (outcome.status, outcome.reason, outcome.attempts) == ("failed", "invalid_arguments", 0)
    assert unpack_fields(outcome.raw)[5] == args


MALFORMED: list[tuple[bytes | str, ...]] = [
    ("a", "b"),
    ("i", b"short", "t", "tests.worker.tasks.my_pid"),
    ("i", b"0123456789abcdef", "t", b"\xff\xfe"),
    ("i", b"0123456789abcdef", "t", ""),
    ("i", b"0123456789abcdef", "t", "tests.worker.tasks.my_pid", "v", "next"),
    ("i", b"0123456789abcdef", "t", "tests.worker.tasks.my_pid", "n", "many"),
    ("i", b"0123456789abcdef", "t", "tests.worker.tasks.my_pid", "h", "[[]]"),
    ("i", b"0123456789abcdef", "t", "tests.worker.tasks.my_pid", "o", "null"),
    ("i", b"0123456789abcdef", "t", "tests.worker.tasks.my_pid", "o", "x" * 1_000),
]


@pytest.mark.parametrize("fields", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_entry_is_buried_with_its_raw_fields(fields: tuple[bytes | str, ...]) -> None:
    before = len(buried())
    send(*fields)
    wait_for(lambda: len(buried()) > before, 8)
    outcome = buried()[-1]
    assert (outcome.status, outcome.attempts) == ("failed", 0)
    expected = [field.encode() if isinstance(field, str) else field for field in fields]
    assert unpack_fields(outcome.raw) == expected


@pytest.mark.parametrize(
    "options",
    [
        '{"timeout": "soon"}',
        '{"max_retries": "many"}',
        '{"max_retries": null}',
        '{"hard_timeout": []}',
        '{"timeout": -1}',
        '{"timeout": 1e999}',
    ],
)
def test_options_on_the_wire_that_make_no_sense_are_malformed(options: str) -> None:
    before = len(buried())
    send("i", new_id(), "t", "tests.worker.tasks.my_pid", "o", options)
    wait_for(lambda: len(buried()) > before, 8)
    assert tasks.my_pid.delay().get(timeout=5)


def test_a_message_of_ours_that_cannot_be_read_fails_under_its_id(ledger: Ledger) -> None:
    """Its idempotency key is free again, and whoever waits for it is told."""
    broker = get_broker()
    message = Message(new_id(), tasks.works.name, options={"timeout": "soon"}, idempotency_key="broken-1")
    broker.enqueue([Submission(message, "default")])
    handle: TaskHandle[Any] = TaskHandle(message.id)
    assert "timeout must be seconds" in failure_of(handle).error_message
    outcome = ended(message.id)
    assert (outcome.status, outcome.reason, outcome.task) == ("failed", "malformed", tasks.works.name)
    again = tasks.works.using(idempotency_key="broken-1").delay(ledger.path, 0)
    assert again.created
    again.get(timeout=5)


def test_a_scheduled_task_whose_message_was_deleted_fails_under_its_id_and_frees_its_key(ledger: Ledger) -> None:
    broker = get_broker()
    call = tasks.works.using(idempotency_key="broken-2")
    lost = call.using(run_after=0.5).delay(ledger.path, 0)
    broker.connections.execute("DEL", broker.keys.queue("default").messages)
    assert failure_of(lost).status == "failed"
    assert ended(lost._id).reason == "malformed"
    again = call.delay(ledger.path, 0)
    assert again.created
    again.get(timeout=5)


def test_a_broken_entry_with_the_id_of_another_task_does_not_touch_that_one(ledger: Ledger) -> None:
    handle = tasks.works.using(run_after=1).delay(ledger.path, 0, "the real one")
    before = len(buried())
    send("i", handle._id, "t", tasks.works.name, "n", "many")
    wait_for(lambda: len(buried()) > before, 8)
    assert buried()[-1].id != handle._id
    assert handle.get(timeout=5) == "the real one"


def test_fields_in_another_order_and_of_a_later_version_are_accepted() -> None:
    id = new_id()
    send("z", "of a later version", "t", "tests.worker.tasks.double_async", "i", id, "a", b'["2"]')
    assert ended(id).result == b'"4"'


def test_a_foreign_producers_task_in_an_unlisted_lane_is_found(ledger: Ledger) -> None:
    broker, id = get_broker(), new_id()
    assert not broker.connections.execute("EXISTS", broker.keys.lane("mail", 0))
    send("i", id, "t", "tests.worker.tasks.works", "a", f'["{ledger.path}", 0]', queue="mail")
    assert ended(id).status == "succeeded"


def test_the_same_id_sent_twice_by_a_foreign_producer_has_one_outcome(ledger: Ledger) -> None:
    id = new_id()
    for _ in range(2):
        send("i", id, "t", "tests.worker.tasks.works", "a", f'["{ledger.path}", 0.1]')
    ended(id)
    broker = get_broker()
    wait_for(lambda: not broker.connections.execute("EXISTS", broker.keys.lane("default", 0)))
    assert len([outcome for outcome in outcomes() if outcome.id == id]) == 1


def test_a_task_that_stops_the_event_loop_does_not_stop_the_worker() -> None:
    tasks.stops_the_loop.delay().get(timeout=5)
    assert tasks.double_async.delay(1).get(timeout=5) == 2
