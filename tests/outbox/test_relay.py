"""The relay: each entry once, in order, whatever is in the way of others."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from django_taskq import BrokerFull, BrokerRefused, BrokerUnavailable, QueueFull, TaskFailed
from django_taskq import relay as module
from django_taskq.broker import Broker
from django_taskq.broker.outbox import RelayLease
from django_taskq.core.ids import id_from_str
from django_taskq.core.states import State
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.recorder import Recorder
from django_taskq.relay import Relay
from tests.broker.helpers import Hand, Shard, id_of
from tests.outbox.conftest import age, to_mail, waiting
from tests.outbox.tasks import add, one_by_one
from tests.servers import RedisServer


@pytest.fixture
def shard(outbox_broker: Broker) -> Shard:
    return Shard(outbox_broker)


def sent(shard: Shard, queue: str = "default", priority: int = 0) -> list[str]:
    """Ids in a lane, in its order."""
    return [str(uuid.UUID(bytes=fields[b"i"])) for _, fields in shard.lane(queue, priority)]


def forget(shard: Shard) -> None:
    """Redis, as after a long while: what was sent has run and been recorded, its index entry is gone."""
    for id in sent(shard):
        TaskResult.objects.create(id=id, task="t", queue="default", status="succeeded", finished_at=timezone.now())
    shard.redis("DEL", shard.keys.index, shard.keys.lane("default", 0))


def test_order_is_kept_in_each_queue(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    ids: dict[str, list[str]] = {"mail": [], "default": []}
    for number in range(30):
        queue = "default" if number % 3 else "mail"
        ids[queue].append(add.using(queue_name=queue).delay(number).id)
    rounds = 0
    while relay.run_once():
        rounds += 1
    assert rounds == 5
    assert {queue: sent(shard, queue) for queue in ids} == ids


def test_two_relays_send_once_and_in_order(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 5)
    other = Relay(shard.broker, "default")
    ids = [add.delay(number).id for number in range(20)]
    assert [relay.run_once(), other.run_once(), relay.run_once()] == [5, 0, 5]
    assert (relay.holding, other.holding) == (True, False)
    relay.close()
    assert [other.run_once(), relay.run_once(), other.run_once(), other.run_once()] == [5, 0, 5, 0]
    assert sent(shard) == ids


def test_a_relay_that_lost_its_lease_on_the_way_sends_nothing(
    shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still between its look and its sending, for so long that another one took over and all has ended."""
    handle = add.delay(1)
    late = Relay(shard.broker, "default")
    sort_out = late._sort_out

    def meanwhile(*args: Any) -> Any:
        shard.redis("HSET", shard.keys.relay_prefix + "default", "until", "1")
        assert relay.run_once() == 1
        forget(shard)
        return sort_out(*args)

    monkeypatch.setattr(late, "_sort_out", meanwhile)
    assert (late.run_once(), late.holding) == (0, False)
    assert (sent(shard), shard.broker.find([id_from_str(handle.id)])[0].state) == ([], None)


def test_sent_and_not_deleted_it_is_not_sent_again(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [add.delay(number).id for number in range(3)]
    monkeypatch.setattr(relay, "_delete", lambda entries: len(entries))
    assert relay.run_once() == 3
    monkeypatch.undo()
    assert waiting() == ids
    assert relay.run_once() == 3
    assert (waiting(), sent(shard)) == ([], ids)


def test_what_redis_has_forgotten_the_records_know(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    add.delay(1)
    monkeypatch.setattr(relay, "_delete", lambda entries: len(entries))
    relay.run_once()
    monkeypatch.undo()
    forget(shard)
    age(60)
    fresh = add.delay(2)
    assert relay.run_once() == 2
    assert (waiting(), sent(shard)) == ([], [fresh.id])


def test_a_database_whose_clock_stepped_back_has_no_fresh_entries(
    shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    add.delay(1)
    monkeypatch.setattr(relay, "_delete", lambda entries: len(entries))
    relay.run_once()
    monkeypatch.undo()
    forget(shard)
    age(-60)
    assert relay.run_once() == 1
    assert (waiting(), sent(shard)) == ([], [])


def test_fresh_entries_do_not_need_the_records(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(ids: Any) -> Any:
        raise OperationalError("the records are away")

    monkeypatch.setattr(module.outbox, "recorded", away)
    fresh = add.delay(1)
    assert relay.run_once() == 1
    assert sent(shard) == [fresh.id]
    add.delay(2)
    age(5)
    with pytest.raises(OperationalError):
        relay.run_once()
    assert len(waiting()) == 1


def test_spans_count_from_the_writing(shard: Shard, relay: Relay) -> None:
    add.using(run_after=100, expires=130).delay(1)
    add.using(run_after=10).delay(2)
    late = add.using(expires=10, deadline=90).delay(3)
    age(60)
    now = shard.broker.time()
    assert relay.run_once() == 3
    [due] = shard.zset(shard.keys.queue("default").scheduled).values()
    assert due / 1000 - now == pytest.approx(40, abs=2)
    [_, (_, fields)] = shard.lane()
    assert str(uuid.UUID(bytes=fields[b"i"])) == late.id
    assert int(fields[b"x"]) / 1000 - now == pytest.approx(-50, abs=2)  # whoever claims it says that it has expired
    assert int(fields[b"D"]) / 1000 - now == pytest.approx(30, abs=2)


def test_the_second_of_an_idempotency_key_is_recorded_as_discarded(shard: Shard, relay: Relay) -> None:
    first, second = (add.using(idempotency_key="order-7").delay(number) for number in (1, 2))
    other = add.delay(3)
    assert relay.run_once() == 3
    assert (sent(shard), waiting()) == ([first.id, other.id], [])
    with pytest.raises(TaskFailed) as failure:
        second.get(timeout=1)
    assert (failure.value.status, second.status) == ("discarded", "discarded")
    assert f"{first.id} has its idempotency key" in str(failure.value)
    Recorder(shard.broker).run_once()
    row = TaskResult.objects.get(pk=second.id)
    assert (row.status, row.args, row.attempts, row.queue) == ("discarded", "[2]", 0, "default")


def test_limits_hold_for_what_comes_from_the_outbox(shard: Shard, relay: Relay) -> None:
    handles = [one_by_one.delay(number) for number in range(3)]
    assert relay.run_once() == 3
    hand = Hand(shard)
    [first] = hand.claim()
    assert id_of(first) == id_from_str(handles[0].id)
    assert shard.states(id_from_str(handle.id) for handle in handles) == ["running", "blocked", "blocked"]


def test_large_calls_come_in_small_batches(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1000)
    for _ in range(5):
        add.using(idempotency_key="x" * 250).delay(1)
    assert relay.run_once() == 1
    assert relay.run_once() == 1


# --- what is in the way -----------------------------------------------------------------------------------------------


def refusing(monkeypatch: pytest.MonkeyPatch, verdict: Any) -> None:
    """Redis answers so to calls with certain arguments: `verdict` returns an error or None."""
    send = RelayLease.send

    def refuse(self: RelayLease, submissions: Any) -> Any:
        if error := verdict([submission.message.args for submission in submissions], submissions[0].queue):
            raise error
        return send(self, submissions)

    monkeypatch.setattr(RelayLease, "send", refuse)


def test_what_redis_refuses_alone_is_put_aside(
    shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(monkeypatch, lambda args, queue: BrokerRefused("not this one") if b"[1]" in args else None)
    first, culprit, last = (add.delay(number) for number in range(3))
    assert relay.run_once() == 2
    assert sent(shard) == [first.id, last.id]
    entry = OutboxEntry.objects.get()
    assert (str(entry.task_id), entry.state, entry.error) == (culprit.id, "refused", "not this one")
    assert "cannot be sent: not this one" in caplog.text
    assert relay.run_once() == 0
    assert get_state(culprit) == State.QUEUED
    assert culprit.cancel() is True


def get_state(handle: Any) -> State:
    handle.refresh()
    return handle.status  # type: ignore[no-any-return]


def test_a_redis_that_refuses_everything_is_waited_for(
    shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a user who lacks a permission: no entry is to blame."""
    with monkeypatch.context() as patch:
        refusing(patch, lambda args, queue: BrokerRefused("NOPERM") if queue == "default" else None)
        ids = [add.delay(number).id for number in range(3)]
        through = to_mail(4)
        assert [relay.run_once(), relay.run_once()] == [1, 0]
        assert (sent(shard, "mail"), waiting()) == ([through.id], ids)
        assert [entry.error for entry in OutboxEntry.objects.all()] == ["NOPERM", "", ""]
        assert caplog.text.count("wait in the outbox") == 1
    monkeypatch.setitem(relay._closed, "default", (0.0, 1.0))
    assert relay.run_once() == 3
    assert sent(shard) == ids


def test_a_full_queue_blocks_no_other(shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [2]

    def verdict(args: list[bytes], queue: str) -> QueueFull | None:
        if queue != "mail":
            return None
        if len(args) > room[0]:
            return QueueFull("mail is full")
        room[0] -= len(args)
        return None

    refusing(monkeypatch, verdict)
    handles = [to_mail(number) for number in range(4)]
    other = add.delay(1)
    assert relay.run_once() == 3  # two found room
    assert (sent(shard, "mail"), sent(shard)) == ([handle.id for handle in handles[:2]], [other.id])
    late = add.delay(2)
    assert relay.run_once() == 1  # mail is left alone for a while
    assert sent(shard) == [other.id, late.id]
    assert {entry.state for entry in OutboxEntry.objects.all()} == {"waiting"}
    room[0] = 10
    monkeypatch.setitem(relay._closed, "mail", (0.0, 1.0))
    assert relay.run_once() == 2
    assert sent(shard, "mail") == [handle.id for handle in handles]


def test_a_batch_for_a_full_queue_is_passed_by_at_once(
    shard: Shard, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    refusing(monkeypatch, lambda args, queue: QueueFull("mail is full") if queue == "mail" else None)
    for number in range(5):
        to_mail(number)
    other = add.delay(1)
    assert relay.run_once() == 1
    assert sent(shard) == [other.id]
    assert relay.run_once() == 0
    assert len(waiting()) == 5


def test_a_row_that_cannot_be_read_is_put_aside(shard: Shard, relay: Relay) -> None:
    broken, good = add.delay(1), add.delay(2)
    OutboxEntry.objects.filter(task_id=broken.id).update(call=b"\x93nonsense")
    assert relay.run_once() == 1
    assert sent(shard) == [good.id]
    assert OutboxEntry.objects.get().error.startswith("It cannot be read: ")


def test_a_full_redis_is_waited_for(shard: Shard, relay: Relay) -> None:
    handle = add.delay(1)
    shard.fill_memory()
    with pytest.raises(BrokerFull):
        relay.run_once()
    assert handle.cancel() is True  # which needs no room
    other = add.delay(2)
    shard.empty_memory()
    assert relay.run_once() == 1
    assert sent(shard) == [other.id]


def test_while_redis_is_away_all_stays(shard: Shard, relay: Relay, redis_server: RedisServer) -> None:
    ids = [add.delay(number).id for number in range(3)]
    redis_server.stop()
    with pytest.raises(BrokerUnavailable):
        relay.run_once()
    redis_server.start()
    assert waiting() == ids
    assert relay.run_once() == 3


def test_an_unknown_field_of_a_later_version_is_passed_over(shard: Shard, relay: Relay) -> None:
    handle = add.delay(1)
    entry = OutboxEntry.objects.get()
    import msgspec

    later = {**msgspec.msgpack.decode(entry.call), "colour": "red"}
    OutboxEntry.objects.update(call=msgspec.msgpack.encode(later))
    assert relay.run_once() == 1
    assert sent(shard) == [handle.id]
