"""delay() with the outbox: what is written when, where, and what a handle says until it has been sent."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from django_taskq import InvalidArguments, InvalidTask, TaskNotFound, get_task, signals, task
from django_taskq import outbox as module
from django_taskq.broker import Broker
from django_taskq.broker.connection import HASTE
from django_taskq.broker.outbox import nudges
from django_taskq.core.ids import id_from_str
from django_taskq.core.states import State
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.relay import Relay
from tests.outbox.conftest import to_mail, waiting
from tests.outbox.tasks import add
from tests.servers import RedisServer
from tests.tasks import sample

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.usefixtures("taskq")


class Undo(Exception):
    """Rolls back."""


def known(broker: Broker, *handles: Any) -> list[State | None]:
    """Where Redis has them."""
    return [found.state for found in broker.find([id_from_str(handle.id) for handle in handles])]


@pytest.fixture
def announced() -> Iterator[list[str]]:
    ids: list[str] = []

    def note(task_id: str, **_: Any) -> None:
        ids.append(task_id)

    signals.task_enqueued.connect(note)
    yield ids
    signals.task_enqueued.disconnect(note)


def test_nothing_goes_to_redis_before_the_commit(outbox_broker: Broker, relay: Relay) -> None:
    with transaction.atomic():
        handle = add.delay(1, b=2)
        assert waiting() == [handle.id]
        assert (handle.status, handle.created, uuid.UUID(handle.id).version) == (State.QUEUED, True, 7)
    assert known(outbox_broker, handle) == [None]
    assert relay.run_once() == 1
    assert known(outbox_broker, handle) == [State.QUEUED]
    assert waiting() == []


def test_what_is_rolled_back_has_never_been(outbox_broker: Broker, relay: Relay, announced: list[str]) -> None:
    with pytest.raises(Undo), transaction.atomic():
        handle = add.delay(1)
        raise Undo
    with transaction.atomic():
        with pytest.raises(Undo), transaction.atomic():
            inner = add.delay(2)
            raise Undo
        kept = add.delay(3)
    assert waiting() == announced == [kept.id]
    assert relay.run_once() == 1
    assert known(outbox_broker, handle, inner, kept) == [None, None, State.QUEUED]
    with pytest.raises(TaskNotFound):
        handle.refresh()


def test_every_way_to_send_is_written(outbox_broker: Broker, relay: Relay) -> None:
    async def send() -> str:
        handle = await add.adelay(1)
        await sync_to_async(lambda: connection.close())()  # that of the thread that Django's asynchronous code shares
        return handle.id

    with transaction.atomic():
        ids = [add.delay(1).id, add.enqueue(2).id, add.delay_on_commit(3).id, add.using(priority=3).delay(4).id]
        ids += [handle.id for handle in add.delay_many(((number,), {}) for number in range(700))]
    ids.append(asyncio.run(send()))
    assert waiting() == ids
    assert known(outbox_broker, *map(get_task, ids[:4])) == [None] * 4
    while relay.run_once():
        continue
    assert {found.state for found in outbox_broker.find([id_from_str(id) for id in ids])} == {State.QUEUED}


def test_all_of_delay_many_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArguments):
        add.delay_many([((1,), {}), ((2,), {"c": 3})])
    monkeypatch.setattr(module, "BATCH", 2)
    with connection.execute_wrapper(_fail_at(2)), pytest.raises(RuntimeError):
        add.delay_many([((number,), {}) for number in range(5)])
    assert waiting() == []


def _fail_at(number: int) -> Any:
    inserts = []

    def run(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT"):
            inserts.append(sql)
            if len(inserts) == number:
                raise RuntimeError("the database has gone")
        return execute(sql, *rest)

    return run


def test_the_signal_comes_with_the_commit(announced: list[str]) -> None:
    with transaction.atomic():
        first, second = add.delay(1), add.delay(2)
        assert announced == []
    assert announced == [first.id, second.id]
    assert add.delay(3).id == announced[2]


def test_one_commit_nudges_once(outbox_broker: Broker, taskq: SettingsWrapper) -> None:
    listener = nudges(outbox_broker, "default")
    with transaction.atomic():
        add.delay(1)
        add.delay(2)
        assert not listener.wait(0.05)
    assert listener.wait(2)
    assert not listener.wait(0.05)
    add.delay(3)  # without a transaction it is committed at once
    assert listener.wait(2)
    listener.close()


def test_without_redis_nothing_raises_and_nothing_is_lost(
    outbox_broker: Broker, relay: Relay, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_quiet_until", 0.0)
    redis_server.stop()
    handles = [add.delay(1), *add.delay_many([((2,), {}), ((3,), {})])]
    with transaction.atomic():
        handles.append(add.delay_on_commit(4))
    assert [handle.status for handle in handles] == [State.QUEUED] * 4
    redis_server.start()
    assert relay.run_once() == 4
    assert known(outbox_broker, *handles) == [State.QUEUED] * 4


def test_a_redis_that_hangs_does_not_hold_up_a_commit(
    outbox_broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_quiet_until", 0.0)
    add.delay(1)  # by a connection that is open from now on
    redis_server.freeze()
    try:
        began = time.monotonic()
        add.delay(2)
        waited = time.monotonic() - began
        assert HASTE <= waited < 2
        assert module._quiet_until > time.monotonic() + module.QUIET
        monkeypatch.setattr(module, "_quiet_until", 0.0)
        began = time.monotonic()
        add.delay(3)  # by a new one
        assert HASTE <= time.monotonic() - began < 2
    finally:
        redis_server.thaw()


def test_tasks_without_it_are_sent_at_once(outbox_broker: Broker, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        handle = sample.add.delay(1)
    assert known(outbox_broker, handle) == [State.QUEUED]


def test_the_setting_is_the_default_of_tasks(taskq: SettingsWrapper) -> None:
    taskq.TASKQ = {**taskq.TASKQ, "OUTBOX": True}
    handle = sample.add.delay(1)
    assert waiting() == [handle.id]


def test_what_goes_through_it_is_recorded(taskq: SettingsWrapper) -> None:
    taskq.TASKQ = {**taskq.TASKQ, "RECORD": "failures"}
    assert add.record == "all"
    assert sample.add.record == "failures"
    entry = OutboxEntry.objects.get(task_id=add.delay(1).id)
    assert module.decode(entry.call).message.options == {"record": "all"}
    with pytest.raises(InvalidTask, match="record='failures' contradicts the outbox"):
        add.using(record="failures")


def test_contradictions_are_said_where_the_task_is_defined(taskq: SettingsWrapper) -> None:
    with pytest.raises(InvalidTask, match=r"tests\.outbox\.test_write\.unrecorded: record='failures'"):
        task(outbox=True, record="failures")(unrecorded)
    with pytest.raises(InvalidTask, match="must be True or False"):
        task(outbox="yes")(unrecorded)  # type: ignore[call-overload]
    with pytest.raises(InvalidTask, match="decided by @task alone"):
        add.using(outbox=False)  # type: ignore[call-arg]
    taskq.TASKQ = {**taskq.TASKQ, "OUTBOX_DATABASES": ["other"]}
    with pytest.raises(InvalidTask, match="TASKQ\\['OUTBOX_DATABASES'\\] names 'other'"):
        add.using(database="default")


def unrecorded() -> None:
    """Not a task of its own."""


# --- handles before it is sent ----------------------------------------------------------------------------------------


def test_a_handle_knows_it_from_the_outbox() -> None:
    soon, later = add.delay(1), add.using(run_after=60).delay(2)
    past = add.using(run_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)).delay(3)
    assert [get_task(handle.id).status for handle in (soon, later, past)] == ["queued", "scheduled", "queued"]
    assert [handle.status for handle in (soon, later, past)] == ["queued", "scheduled", "queued"]
    found = get_task(soon.id)
    assert found._task is add
    assert found.progress is None


@pytest.mark.parametrize("use_tz", [True, False])
def test_what_is_to_start_later_is_scheduled_in_every_time_zone(settings: SettingsWrapper, use_tz: bool) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", use_tz
    handle = add.using(run_after=60).delay(1)
    handle.refresh()
    assert handle.status is State.SCHEDULED


def test_an_entry_that_is_sent_while_a_handle_looks_is_found(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = add.delay(1)
    look = module.find

    def find_late(id: bytes) -> Any:
        relay.run_once()
        return look(id)

    monkeypatch.setattr(module, "find", find_late)
    assert get_task(handle.id).status == "queued"


def test_cancelled_before_it_is_sent_it_never_is(outbox_broker: Broker, relay: Relay) -> None:
    handle, other = add.delay(1), to_mail(2)
    assert handle.cancel() is True
    assert (handle.status, get_task(handle.id).status) == ("cancelled", "cancelled")
    assert waiting() == [other.id]
    assert relay.run_once() == 1
    assert known(outbox_broker, handle, other) == [State.CANCELLED, State.QUEUED]
    assert handle.cancel() is None


def test_a_cancellation_counts_even_if_its_row_stays(
    outbox_broker: Broker, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between Redis and the row: as the relay sees it, this id has been."""
    handle = add.delay(1)
    monkeypatch.setattr(OutboxEntry, "delete", lambda self: None)
    assert handle.cancel() is True
    assert relay.run_once() == 1
    assert (known(outbox_broker, handle), waiting()) == ([State.CANCELLED], [])
    assert outbox_broker.recorder_lag() == 1


def test_cancelling_what_is_sent_meanwhile_cancels_it_there(
    outbox_broker: Broker, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = add.delay(1)
    look = module.find

    def find_early(id: bytes) -> Any:
        found = look(id)
        relay.run_once()
        return found

    monkeypatch.setattr(module, "find", find_early)
    assert handle.cancel() is True
    assert known(outbox_broker, handle) == [State.CANCELLED]


def test_the_signal_of_a_cancellation_is_sent() -> None:
    told: list[str] = []

    def note(task_id: str, **_: Any) -> None:
        told.append(task_id)

    signals.task_cancelled.connect(note)
    try:
        handle = add.delay(1)
        handle.cancel()
    finally:
        signals.task_cancelled.disconnect(note)
    assert told == [handle.id]
    assert not TaskResult.objects.exists()  # the recorder's business
