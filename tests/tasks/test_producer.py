"""Sending: what goes to the broker, and the errors that come back to the caller."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_taskq import (
    BrokerFull,
    BrokerUnavailable,
    InvalidArguments,
    InvalidTask,
    PayloadTooLarge,
    TaskHandle,
    TaskNotFound,
    get_task,
    signals,
    task,
)
from django_taskq.broker import Broker, Found
from django_taskq.context import TaskContext, current_context
from django_taskq.core.ids import id_from_str, new_id
from django_taskq.core.message import Message
from django_taskq.core.states import State
from django_taskq.task import Task
from tests.servers import RedisServer
from tests.tasks import sample

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


def found(broker: Broker, handle: TaskHandle[Any]) -> Found:
    return broker.find([id_from_str(handle.id)])[0]


def message_of(broker: Broker, handle: TaskHandle[Any]) -> Message:
    message = found(broker, handle).message
    assert message is not None
    return message


def test_delay_sends_the_call(broker: Broker) -> None:
    handle = sample.add.delay(1, b=2)
    where = found(broker, handle)
    assert (where.state, where.queue) == (State.QUEUED, "default")
    message = message_of(broker, handle)
    assert (message.task, message.args, message.kwargs) == ("tests.tasks.sample.add", b"[1]", b'{"b":2}')
    assert (message.priority, message.options, message.headers, message.idempotency_key) == (0, {}, {}, "")
    assert (handle.status, handle.created) == (State.QUEUED, True)
    assert uuid.UUID(handle.id).version == 7


def test_enqueue_is_another_name_of_delay(broker: Broker) -> None:
    assert message_of(broker, sample.add.enqueue(1)).args == b"[1]"
    assert message_of(broker, asyncio.run(sample.add.aenqueue(2))).args == b"[2]"
    assert message_of(broker, asyncio.run(sample.add.adelay(3))).args == b"[3]"


def test_typed_arguments_travel(broker: Broker) -> None:
    when, by = datetime(2024, 2, 29, tzinfo=UTC), timedelta(hours=1)
    message = message_of(broker, sample.move.delay(when, by, price=Decimal("1.10")))
    assert sample.move.bind(message.args, message.kwargs) == ((when, by), {"price": Decimal("1.10")})


def test_using_changes_what_the_message_says(broker: Broker, taskq_settings: SettingsWrapper) -> None:
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    call = sample.add.using(
        queue_name="mail", priority=7, max_retries=1, timeout=None, hard_timeout=timedelta(minutes=1), record="failures"
    )
    handle = call.delay(1)
    message = message_of(broker, handle)
    assert found(broker, handle).queue == "mail"
    assert message.priority == 7
    assert message.options == {"max_retries": 1, "timeout": None, "hard_timeout": 60.0, "record": "failures"}
    again = message_of(broker, call.using(priority=8, max_retries=2).delay(1))
    assert (again.priority, again.options["max_retries"], again.options["timeout"]) == (8, 2, None)
    assert message_of(broker, sample.add.delay(1)).options == {}


def test_run_after_schedules(broker: Broker) -> None:
    now = broker.time() * 1000
    for run_after in (timedelta(minutes=5), 300, datetime.now(UTC) + timedelta(minutes=5)):
        handle = sample.add.using(run_after=run_after).delay(1)
        due = found(broker, handle).due
        assert due is not None
        assert abs(due - now - 300_000) < 5_000
        assert handle.status is State.SCHEDULED
    for run_after in (0, -60, datetime.now(UTC) - timedelta(minutes=5)):
        assert sample.add.using(run_after=run_after).delay(1).status is State.QUEUED


def test_expires_is_a_time_on_redis_clock(broker: Broker) -> None:
    now = broker.time() * 1000
    for expires in (timedelta(minutes=5), 300, datetime.now(UTC) + timedelta(minutes=5)):
        expiry = message_of(broker, sample.add.using(expires=expires).delay(1)).expires
        assert expiry is not None
        assert abs(expiry - now - 300_000) < 5_000


# --- refused before anything is sent ----------------------------------------------------------------------------------


def test_a_wrong_call_sends_nothing(broker: Broker) -> None:
    for wrong in (
        lambda: sample.add.delay(),  # type: ignore[call-arg]
        lambda: sample.add.delay("1"),  # type: ignore[arg-type]
        lambda: sample.add.using(priority=1).delay(1, c=2),  # type: ignore[call-arg]
        lambda: sample.add.delay_on_commit(None),  # type: ignore[arg-type]
        lambda: sample.add.delay_many([((1,), {}), ((), {})]),
        lambda: asyncio.run(sample.add.adelay()),  # type: ignore[call-arg]
    ):
        with pytest.raises(InvalidArguments, match=r"tests\.tasks\.sample\.add"):
            wrong()
    assert not broker.connections.execute("DBSIZE")


def test_a_payload_over_the_limit_names_task_size_and_limit(broker: Broker, taskq_settings: SettingsWrapper) -> None:
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "MAX_PAYLOAD_BYTES": 1000}
    with pytest.raises(PayloadTooLarge, match=r"sample\.fail: the arguments take 1,206 bytes; .* allows 1,000"):
        sample.fail.delay("x" * 1200)
    sample.fail.delay("x" * 990)


@pytest.mark.parametrize("call", [5, None, (1,), ((1,), {}, 3), (1, {}), ((1,), [2]), "ab", {"a": 1}])
def test_delay_many_says_which_call_is_no_call(broker: Broker, call: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"sample\.add: delay_many\(\) takes pairs .* number 1 is"):
        sample.add.delay_many([((1,), {}), call])
    assert not broker.connections.execute("DBSIZE")


# --- many -------------------------------------------------------------------------------------------------------------


def test_delay_many_sends_all_in_order(broker: Broker) -> None:
    handles = sample.add.delay_many(((number,), {"b": number}) for number in range(1_203))
    assert len({handle.id for handle in handles}) == 1_203
    messages = [place.message for place in broker.find([id_from_str(handle.id) for handle in handles])]
    assert [message.args for message in messages if message] == [b"[%d]" % number for number in range(1_203)]
    assert {handle.status for handle in handles} == {State.QUEUED}
    assert sample.add.delay_many([]) == []
    assert [handle.status for handle in sample.add.using(run_after=60).delay_many([([1], {})])] == [State.SCHEDULED]


def test_delay_many_and_one_idempotency_key_do_not_go_together(broker: Broker) -> None:
    with pytest.raises(InvalidTask, match="delay_many"):
        sample.add.using(idempotency_key="x").delay_many([((1,), {})])


# --- idempotency ------------------------------------------------------------------------------------------------------


def test_a_taken_idempotency_key_gives_the_first_ones_handle(broker: Broker) -> None:
    first = sample.add.using(idempotency_key="order-7").delay(1)
    second = sample.add.using(idempotency_key="order-7").delay(2)
    assert (first.created, second.created) == (True, False)
    assert second == first
    assert second.status is State.QUEUED
    assert message_of(broker, second).args == b"[1]"
    assert sample.add.using(idempotency_key="order-8").delay(1).created
    assert sample.slow.using(idempotency_key="order-7").delay(1).created


@pytest.mark.usefixtures("registered")
def test_an_idempotency_key_of_the_task_itself(broker: Broker) -> None:
    only = task(idempotency_key="only one", idempotency_ttl=60)(sample.function)
    assert [only.delay(1).created, only.delay(2).created] == [True, False]
    assert message_of(broker, only.delay(1)).idempotency_ttl == 60
    assert only.using(idempotency_key=None).delay(3).created


# --- transactions -----------------------------------------------------------------------------------------------------


# --- fair keys --------------------------------------------------------------------------------------------------------


def test_a_fair_key_is_made_of_the_arguments(broker: Broker) -> None:
    first, same = found(broker, sample.of_tenant.delay(7)), found(broker, sample.of_tenant.delay(tenant_id=7, note="x"))
    other = found(broker, sample.of_tenant.delay(8))
    assert (first.message and first.message.fair_key, first.share[:1]) == ("tenant:7", "f")
    assert first.share == same.share != other.share
    gated, odd = found(broker, sample.of_half.delay(4)), found(broker, sample.of_half.delay(5))
    assert (gated.message and gated.message.fair_key, gated.share[:1]) == ("0", "g")
    assert gated.share != odd.share


def test_many_calls_go_each_to_its_share_and_keep_their_order(broker: Broker) -> None:
    handles = sample.of_tenant.delay_many([((number % 3,), {}) for number in range(10)])
    keys = [message_of(broker, handle).fair_key for handle in handles]
    assert keys == [f"tenant:{number % 3}" for number in range(10)]
    assert broker.connections.execute("ZCARD", broker.keys.queue("default").lanes) == 3


def test_a_fair_key_that_cannot_be_made_is_the_callers_mistake(broker: Broker) -> None:
    with pytest.raises(InvalidArguments, match=r"of_half: fair_key fails for these arguments: ZeroDivisionError"):
        sample.of_half.delay(0)
    with pytest.raises(InvalidTask, match=r"option fair_key='tenant:\{tenant\}' names 'tenant'"):
        Task(sample.add.func, fair_key="tenant:{tenant}")
    with pytest.raises(InvalidTask, match="fair_key"):
        sample.add.using(fair_key="x")  # type: ignore[call-arg]
    assert not broker.connections.execute("DBSIZE")


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_a_deadline_is_a_time_on_redis_clock(broker: Broker) -> None:
    now = broker.time() * 1000
    for deadline in (timedelta(minutes=5), 300, datetime.now(UTC) + timedelta(minutes=5)):
        sent = message_of(broker, sample.add.using(deadline=deadline).delay(1))
        assert sent.deadline is not None
        assert abs(sent.deadline - now - 300_000) < 2000
        assert sent.expires is None


def test_a_child_has_its_parents_deadline_if_it_asks_for_it(broker: Broker) -> None:
    heir = sample.add.using(inherit_deadline=True)
    assert message_of(broker, heir.delay(1)).deadline is None  # outside of a task
    parent = Message(new_id(), "parent", deadline=4_000_000_000_000)
    token = current_context.set(TaskContext(parent, sample.add, "default", None, 0))
    try:
        assert message_of(broker, heir.delay(1)).deadline == parent.deadline
        assert message_of(broker, sample.add.delay(1)).deadline is None
        sooner = message_of(broker, heir.using(deadline=60).delay(1)).deadline
        later = message_of(broker, heir.using(deadline=datetime(2100, 1, 1, tzinfo=UTC)).delay(1)).deadline
        [many] = heir.delay_many([((1,), {})])
    finally:
        current_context.reset(token)
    assert sooner is not None
    assert abs(sooner - broker.time() * 1000 - 60_000) < 2000
    assert later == message_of(broker, many).deadline == parent.deadline


@pytest.mark.django_db(transaction=True)
def test_on_commit_sends_after_the_commit(broker: Broker) -> None:
    with transaction.atomic():
        handle = sample.add.delay_on_commit(1)
        assert uuid.UUID(handle.id)
        with pytest.raises(TaskNotFound):
            handle.refresh()
        with pytest.raises(TaskNotFound):
            _ = handle.status
    assert handle.status is State.QUEUED
    assert get_task(handle.id) == handle


@pytest.mark.django_db(transaction=True)
def test_on_commit_sends_nothing_after_a_rollback(broker: Broker) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        sample.add.delay_on_commit(1)
        1 / 0  # noqa: B018
    with transaction.atomic():
        sample.add.delay_on_commit(2)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            sample.add.delay_on_commit(3)
            1 / 0  # noqa: B018
    assert broker.connections.execute("HLEN", broker.keys.index) == 1


@pytest.mark.django_db(transaction=True)
def test_on_commit_sends_at_once_outside_a_transaction(broker: Broker) -> None:
    assert found(broker, sample.add.delay_on_commit(1)).state is State.QUEUED


@pytest.mark.django_db(transaction=True)
def test_on_commit_keeps_the_arguments_of_the_call(broker: Broker) -> None:
    value = {"a": 1}
    with transaction.atomic():
        handle = sample.open_ended.using(database="default").delay_on_commit(value)
        value["a"] = 2
    assert message_of(broker, handle).args == b'[{"a":1}]'


@pytest.mark.django_db(transaction=True)
def test_on_commit_with_a_taken_key_becomes_the_first_ones_handle(broker: Broker) -> None:
    first = sample.add.using(idempotency_key="x").delay(1)
    with transaction.atomic():
        second = sample.add.using(idempotency_key="x").delay_on_commit(1)
        assert second != first
    assert second == first
    assert not second.created


@pytest.mark.django_db
def test_on_commit_under_djangos_capture(
    broker: Broker, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        handle = sample.add.delay_on_commit(1)
    assert handle.status is State.QUEUED


def test_using_refuses_a_database_that_is_none() -> None:
    with pytest.raises(InvalidTask, match="DATABASES"):
        sample.add.using(database="elsewhere")


# --- a broker in trouble ----------------------------------------------------------------------------------------------


def test_a_broker_that_is_away_raises_with_the_id(
    broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.3)
    sample.add.delay(1)
    redis_server.stop()
    for send in (lambda: sample.add.delay(1), lambda: sample.add.delay_many([((1,), {})])):
        with pytest.raises(BrokerUnavailable) as caught:
            send()
        assert uuid.UUID(caught.value.id).version == 7
    redis_server.start()
    assert sample.add.delay(1).status is State.QUEUED


def test_a_full_broker_refuses(broker: Broker, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(BrokerFull):
        sample.add.delay(1)


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def enqueued() -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def receiver(sender: Any, **kwargs: Any) -> None:
        seen.append({"sender": sender, **kwargs})

    signals.task_enqueued.connect(receiver)
    yield seen
    signals.task_enqueued.disconnect(receiver)


def test_task_enqueued_is_sent_after_the_task(broker: Broker, enqueued: list[dict[str, Any]]) -> None:
    handles = [sample.add.delay(1), *sample.add.delay_many([((2,), {}), ((3,), {})])]
    assert [event["task_id"] for event in enqueued] == [handle.id for handle in handles]
    assert {event["sender"] for event in enqueued} == {sample.add}
    assert {event["queue"] for event in enqueued} == {"default"}
    assert enqueued[0]["handle"] == handles[0]


@pytest.mark.django_db(transaction=True)
def test_task_enqueued_waits_for_the_commit(broker: Broker, enqueued: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        sample.add.delay_on_commit(1)
        assert not enqueued
    assert len(enqueued) == 1


def test_a_receiver_that_raises_changes_nothing(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("oops")

    signals.task_enqueued.connect(broken, sender=sample.add)
    try:
        with caplog.at_level(logging.ERROR):
            assert sample.add.delay(1).status is State.QUEUED
        assert "oops" in caplog.text
    finally:
        signals.task_enqueued.disconnect(broken, sender=sample.add)


# --- cost -------------------------------------------------------------------------------------------------------------


def test_a_call_costs_the_producer_little(broker: Broker) -> None:
    """Ten times what it takes, so that only a change of its order fails here."""
    from django_taskq import producer

    route = sample.move.using(priority=1)._route
    call = ((datetime.now(UTC), timedelta(seconds=1)), {"price": Decimal(1)})
    started = time.process_time()
    for _ in range(1000):
        producer._wrap(route, producer._message(route, *producer._encode(route, *call)))
    assert (time.process_time() - started) / 1000 < 200e-6
