"""Batch tasks in the threads of a task process, on a real Redis: each call has its own end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from django_taskq import Task, TaskFailed, TaskHandle
from django_taskq.broker import Broker
from django_taskq.broker.delivery import Delivery
from django_taskq.core.ids import id_from_str
from django_taskq.kept_log import KeptLog
from django_taskq.log_bounds import LogBounds
from django_taskq.moments import moment_of_ms
from django_taskq.worker import distributor
from django_taskq.worker.batches import Batch, BatchWork
from django_taskq.worker.notes import Notes
from django_taskq.worker.time_limits import TimeLimits
from tests.servers import wait_for
from tests.worker import batch_tasks, tasks
from tests.worker.batch_tasks import Step
from tests.worker.conftest import QUEUES, Ledger, eventually, outcomes
from tests.worker.inside import Crew, Desk, delivery_of, end, kind_of, new_executor, new_pool, outcome_in

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

SOON = 5.0  # seconds until a result


@pytest.fixture
def crew(broker: Broker) -> Iterator[Crew]:
    with Crew(broker, threads=2) as crew:
        yield crew


def send(task: Task[..., Any], ledger: Ledger, *names: str, **does: str) -> list[TaskHandle[Any]]:
    """A call for each name; `does` says what some of them do."""
    return task.delay_many([((Step(ledger.path, name, does.get(name, "succeed")),), {}) for name in names])


def names_of(ledger: Ledger, event: str = "start") -> list[list[str]]:
    return [line["names"] for line in ledger.events(event)]


def ends(handles: list[TaskHandle[Any]]) -> list[str]:
    for handle in handles:
        wait_for(lambda handle=handle: (handle.refresh(), handle.status not in _UNDER_WAY)[1], SOON, handle.status)
    return [handle.status for handle in handles]


_UNDER_WAY = ("scheduled", "queued", "running")


@pytest.mark.parametrize("task", [batch_tasks.gathers, batch_tasks.gathers_async], ids=["thread", "loop"])
def test_calls_run_together_as_soon_as_there_are_enough(task: Any, crew: Crew, ledger: Ledger) -> None:
    sent = time.monotonic()
    handles = send(task, ledger, *"abcdefghij")
    assert [handle.get(timeout=SOON) for handle in handles] == [f"{name} on None" for name in "abcdefghij"]
    assert time.monotonic() - sent < 0.25  # sooner than the 0.3 s that a batch waits
    assert sorted(names_of(ledger)) == [list("abcde"), list("fghij")]
    assert {id for line in ledger.events() for id in line["ids"]} == {handle.id for handle in handles}


def test_fewer_run_when_the_first_has_waited_for_long_enough(crew: Crew, ledger: Ledger) -> None:
    sent = time.time()
    (first,) = send(batch_tasks.gathers, ledger, "a")
    time.sleep(0.15)
    (second,) = send(batch_tasks.gathers, ledger, "b")
    for handle in (first, second):
        handle.get(timeout=SOON)
    (line,) = ledger.events()
    assert line["names"] == ["a", "b"]
    assert 0.29 <= line["at"] - sent <= 0.4


def test_an_item_arrives_as_what_it_was(crew: Crew, ledger: Ledger) -> None:
    day, key = date(2026, 11, 27), UUID(int=7)
    handle = batch_tasks.gathers.delay(Step(ledger.path, "a", day=day, key=key))
    assert handle.get(timeout=SOON) == "a on 2026-11-27"


def test_calls_of_all_queues_and_priorities_gather_and_end_in_their_own(
    broker: Broker, ledger: Ledger, settings: SettingsWrapper
) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": QUEUES}
    with Crew(broker, queues=("default", "mail")):
        handles = [
            batch_tasks.gathers.using(queue_name=queue, priority=priority).delay(Step(ledger.path, queue))
            for queue, priority in [("default", 0), ("mail", 0), ("default", 7), ("mail", -7), ("default", -100)]
        ]
        assert ends(handles) == ["succeeded"] * 5
    assert len(names_of(ledger)) <= 2
    assert {(outcome.queue, outcome.priority) for outcome in outcomes()} == {
        ("default", 0), ("mail", 0), ("default", 7), ("mail", -7), ("default", -100),
    }  # fmt: skip


@pytest.mark.parametrize("task", [batch_tasks.gathers, batch_tasks.gathers_async], ids=["thread", "loop"])
def test_each_call_has_its_own_retries_and_its_own_end(task: Any, crew: Crew, ledger: Ledger) -> None:
    handles = send(task, ledger, *"abcde", a="fail", b="retry", c="discard", d="fail once")
    assert ends(handles) == ["failed", "failed", "discarded", "succeeded", "succeeded"]
    assert handles[3].get() == "d again"
    assert names_of(ledger)[0] == list("abcde")
    assert sorted(name for names in names_of(ledger)[1:] for name in names) == ["a", "b", "d"]
    attempts = {outcome.id: outcome.attempts for outcome in outcomes()}
    assert [attempts[handle._id] for handle in handles] == [2, 2, 1, 2, 1]
    with pytest.raises(TaskFailed) as failure:
        handles[0].get()
    assert failure.value.error_message == "no"


def test_a_batch_that_raises_fails_those_that_were_not_told_otherwise(crew: Crew, ledger: Ledger) -> None:
    handles = send(batch_tasks.tells, ledger, *"abcd", b="fail", c="raise")
    assert ends(handles) == ["succeeded", "failed", "succeeded", "succeeded"]
    attempts = {outcome.id: outcome.attempts for outcome in outcomes()}
    assert [attempts[handle._id] for handle in handles] == [1, 2, 2, 2]
    assert handles[0].get() == "a"


def test_a_wrong_number_of_results_fails_all_and_does_not_run_them_again(crew: Crew, ledger: Ledger) -> None:
    handles = send(batch_tasks.returns_too_few, ledger, *"abc")
    assert ends(handles) == ["failed"] * 3
    assert names_of(ledger) == [list("abc")]
    with pytest.raises(TaskFailed, match="InvalidBatchResult: A batch of 3 calls returned 2 results"):
        handles[0].get()


def test_other_tasks_do_not_wait_for_a_batch_that_gathers(crew: Crew, ledger: Ledger) -> None:
    waiting = send(batch_tasks.patient, ledger, *"abc")
    wait_for(lambda: len(crew.held) == 3, SOON)
    sent = time.monotonic()
    for handle in [tasks.works.delay(ledger.path, 0) for _ in range(20)]:
        handle.get(timeout=SOON)
    assert time.monotonic() - sent < 1.0
    assert len(crew.held) == 3
    assert [(handle.refresh(), handle.status)[1] for handle in waiting] == ["running"] * 3


def test_a_call_that_is_cancelled_while_it_gathers_is_not_run(crew: Crew, ledger: Ledger) -> None:
    first, second = send(batch_tasks.gathers, ledger, *"ab")
    wait_for(lambda: len(crew.held) == 2, SOON)
    assert first.cancel() is False
    for delivery in crew.held.all():  # as the process does, told by its supervisor
        delivery.cancelled = delivery.fields[1] == first._id
    assert ends([first, second]) == ["cancelled", "succeeded"]
    assert names_of(ledger) == [["b"]]


def test_what_gathers_goes_to_other_workers_when_this_one_stops(broker: Broker, ledger: Ledger) -> None:
    with Crew(broker) as crew:
        handles = send(batch_tasks.patient, ledger, *"abc")
        wait_for(lambda: len(crew.held) == 3, SOON)
    assert not crew.held
    for handle in handles:
        handle.refresh()
        assert handle.status == "queued"
    assert names_of(ledger) == []


def test_a_batch_that_finds_no_thread_goes_back_and_runs_later(
    broker: Broker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributor, "MOST_WAIT", 0.2)
    with Crew(broker, threads=1) as crew:
        handles = send(batch_tasks.gathers, ledger, *"abc")
        wait_for(lambda: len(crew.held) == 3, SOON)
        handles.append(tasks.holds.delay(ledger.path, ledger.gate, "long"))
        eventually(lambda: crew.threads.waiting() == 1, 1)  # nothing more has gathered for 0.3 s
        eventually(lambda: len(crew.held) == 1, 1)
        assert [(handle.refresh(), handle.status)[1] for handle in handles] == ["queued"] * 3 + ["running"]
        ledger.open_gate()
        assert ends(handles) == ["succeeded"] * 4


def test_limits_count_calls_and_not_batches(crew: Crew, ledger: Ledger) -> None:
    handles = send(batch_tasks.at_most_two, ledger, *"ababababab")
    assert ends(handles) == ["succeeded"] * 10
    assert max(names.count(name) for names in names_of(ledger) for name in names) == 2
    assert max(map(len, names_of(ledger))) == 4


def test_what_a_batch_sends_inherits_the_nearest_deadline_and_one_call_hands_on_its_own(
    broker: Broker, crew: Crew
) -> None:
    now = round(broker.time() * 1000)
    given = [now + 90_000, now + 30_000, None]
    sends = batch_tasks.sends_children
    handles = [sends.using(deadline=moment_of_ms(deadline)).delay("x") for deadline in given]
    children = [id for handle in handles for id in handle.get(timeout=SOON)]
    found = broker.find([id_from_str(id) for id in children])
    deadlines = [each.message.deadline for each in found if each.message is not None]
    assert deadlines == [given[1], given[0], given[1], given[1], given[1], None]


def test_a_backlog_runs_in_full_batches(broker: Broker, ledger: Ledger) -> None:
    handles = send(batch_tasks.gathers, ledger, *(str(number) for number in range(200)))
    with Crew(broker, threads=2):
        assert ends(handles) == ["succeeded"] * 200
    assert [len(names) for names in names_of(ledger)] == [5] * 40


# --- without Redis ---------------------------------------------------------------------------------------------------


def batch_of(desk: Desk, *deliveries: Delivery) -> Batch:
    return Batch(deliveries, time.monotonic(), desk.put, lambda: None)


def test_a_batch_has_the_shortest_limits_of_its_calls(ledger: Ledger) -> None:
    step, executor = Step(ledger.path, "x"), new_executor()
    given: list[dict[str, Any]] = [{"timeout": 9, "hard_timeout": 50}, {"timeout": 5}, {"timeout": None}]
    deliveries = [delivery_of(batch_tasks.gathers, step, options=options) for options in given]
    work = executor.prepare(batch_of(Desk(), *deliveries))
    assert (work.timeout, work.hard_timeout) == (5, 50)  # type: ignore[union-attr]
    assert {call.context.deadline for call in work.calls} == {work.started + 5}  # type: ignore[union-attr]


def test_what_cannot_run_ends_at_once_and_the_others_run_without_it(ledger: Ledger) -> None:
    desk, executor, step = Desk(), new_executor(), Step(ledger.path, "x")
    wrong = [
        delivery_of(batch_tasks.gathers, {"path": 3}),
        delivery_of(batch_tasks.gathers, step, cancelled=True),
        delivery_of(batch_tasks.gathers, step, expires=1),
    ]
    batch = batch_of(desk, *wrong, delivery_of(batch_tasks.gathers, step))
    work = executor.prepare(batch)
    assert [kind_of(settlement) for settlement in desk.settlements] == ["failed", "cancelled", "expired"]
    assert outcome_in(desk.settlements[0]).reason == "invalid_arguments"
    settlements = executor.concluded(work, ["fine"], None)  # type: ignore[arg-type]
    assert [kind_of(settlement) for settlement in settlements] == ["succeeded"]  # type: ignore[union-attr]
    assert executor.prepare(batch_of(desk, *wrong)) == []


def test_a_batch_over_its_time_limit_is_a_failed_attempt_of_each_call(ledger: Ledger) -> None:
    desk = Desk()
    pool = new_pool(desk, 1)
    step = Step(ledger.path, "x")
    pool.put(batch_of(desk, *(delivery_of(batch_tasks.takes_long, step) for _ in "abc")))
    limits = TimeLimits(pool, _Empty(), pool.executor, desk.put, lambda why: None)  # type: ignore[arg-type]
    deadline = time.monotonic() + SOON
    while len(desk.settlements) < 3 and time.monotonic() < deadline:
        limits.check()
        time.sleep(0.02)
    assert [kind_of(settlement) for settlement in desk.settlements] == ["succeeded", "failed", "failed"]
    assert [outcome_in(settlement).reason for settlement in desk.settlements[1:]] == ["timeout"] * 2
    assert pool.durations.seconds is None
    end(pool)


class _Empty:
    def running(self) -> list[Any]:
        return []


def test_a_fault_of_the_worker_itself_is_a_dead_letter_for_each_call(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = new_executor()
    deliveries = [delivery_of(batch_tasks.gathers, Step(ledger.path, name)) for name in "ab"]
    work = executor.prepare(batch_of(Desk(), *deliveries))
    monkeypatch.setattr("django_taskq.worker.batches.ends_of", None)
    settlements = executor.concluded(work, [1, 2], None)  # type: ignore[arg-type]
    assert isinstance(settlements, list)
    assert [(each.delivery, kind_of(each)) for each in settlements] == [(each, "failed") for each in deliveries]


def test_a_batch_is_noted_with_all_its_calls(ledger: Ledger) -> None:
    notes = Notes(3, 1_000)
    deliveries = [delivery_of(batch_tasks.gathers, Step(ledger.path, "x")) for _ in range(1_000)]
    batch = batch_of(Desk(), *deliveries)
    notes.set(0, b"1-1 default:0", 1.0)
    notes.set(1, batch.location, 2.0)
    notes.limit(1, 99.0)
    assert [note.location for note in notes.read()] == [b"1-1 default:0", *(each.location for each in deliveries)]
    assert {note.hard_deadline for note in notes.read()[1:]} == {99.0}
    notes.clear(1)
    notes.set(1, batch.location[:100], 3.0)
    assert len(notes.read()) == 1 + len(batch.location[:100].split(b"\n"))
    notes.set(2, b"\n".join([b"x" * 230] * 2_000), 4.0)  # more than there may be: whole locations, as many as fit
    many = notes.read()[-1_000:]
    assert {note.location for note in many} == {b"x" * 230}


def test_what_a_batch_logs_is_kept_with_each_call(ledger: Ledger) -> None:
    executor, names = new_executor(), ("a", "b")
    deliveries = [delivery_of(batch_tasks.gathers, Step(ledger.path, name)) for name in names]
    work = executor.prepare(batch_of(Desk(), *deliveries))
    assert isinstance(work, BatchWork)
    work.context.log = KeptLog(LogBounds())
    work.context.log.add(logging.makeLogRecord({"msg": "two rows", "levelname": "INFO", "name": "shop"}))
    ended = executor.concluded(work, ["x", ValueError("no")], None)
    assert isinstance(ended, list)
    assert outcome_in(ended[0]).log.endswith("INFO shop two rows")
    assert "INFO shop two rows" in str(ended[1].arguments)  # in the history of its next attempt
