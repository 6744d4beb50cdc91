"""fire: a tick's message is sent and the tick noted in one step, by the first who tries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_taskq.broker import Broker, Submission
from django_taskq.broker.periodic import Fired, Note, Tick, Ticks
from django_taskq.core.gates import rate_gate
from django_taskq.core.ids import id_at
from django_taskq.exceptions import BrokerFull, BrokerUnavailable, QueueFull, RateLimited
from django_taskq.queue_options import DROP_OLDEST, QueueOptions
from django_taskq.rates import parse_rate
from tests.broker.helpers import HOUR, Hand, Shard, message
from tests.broker.test_limits import gated


@pytest.fixture
def ticks(shard: Shard) -> Ticks:
    return Ticks(shard.broker)


@pytest.fixture
def now(shard: Shard) -> int:
    return int(shard.broker.time() * 1000)


def submission(tick: Tick, queue: str = "default", delay: int | None = None, **values: Any) -> Submission:
    return Submission(message(id=id_at(tick.at, tick.name.encode().ljust(10)), **values), queue, delay)


def fire(ticks: Ticks, tick: Tick, **values: Any) -> Fired:
    return ticks.fire(tick, submission(tick, **values))[0]


def note(ticks: Ticks, name: str = "report") -> Note:
    return ticks.notes([name])[0]


def test_a_tick_is_fired_once_and_the_next_one_again(shard: Shard, ticks: Ticks, now: int) -> None:
    first, second = Tick("report", now), Tick("report", now + 1)
    assert [fire(ticks, first) for _ in range(3)] == [Fired.SENT, Fired.BEFORE, Fired.BEFORE]
    assert fire(ticks, second) is Fired.SENT
    assert fire(ticks, first) is Fired.BEFORE
    ids = [fields[b"i"] for _, fields in shard.lane()]
    assert ids == [submission(tick).message.id for tick in (first, second)]
    assert note(ticks) == Note(second.at, 2, 0, 0, 0, ids[1])


def test_periodic_tasks_do_not_know_each_other(ticks: Ticks, now: int) -> None:
    assert [fire(ticks, Tick(name, now)) for name in ("a", "a:b", "a:tick")] == [Fired.SENT] * 3
    assert [note(ticks, name).fired for name in ("a", "a:b", "a:tick", "other")] == [1, 1, 1, 0]
    ticks.forget("a")
    assert [note.fired for note in ticks.notes(["a", "a:b"])] == [0, 1]


def test_a_tick_is_fired_once_long_after_its_task_has_ended_and_is_forgotten(
    shard: Shard, hand: Hand, ticks: Ticks, now: int
) -> None:
    tick = Tick("report", now)
    assert fire(ticks, tick) is Fired.SENT
    hand.settle_all(hand.claim(), "failed")
    shard.redis("DEL", shard.keys.outcomes, shard.keys.index)
    assert fire(ticks, tick) is Fired.BEFORE
    assert hand.claim() == []


def test_of_many_at_once_one_fires(shard: Shard, ticks: Ticks, now: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda number: fire(ticks, Tick("report", now + number // 8)), range(80)))
    assert len(shard.lane()) == said.count(Fired.SENT)
    assert len({fields[b"i"] for _, fields in shard.lane()}) == said.count(Fired.SENT)
    assert note(ticks).tick == now + 9


def test_what_the_database_knows_counts_where_redis_has_forgotten(ticks: Ticks, now: int) -> None:
    assert fire(ticks, Tick("report", now, settled=now)) is Fired.BEFORE
    assert fire(ticks, Tick("report", now, settled=now - 1)) is Fired.SENT


def test_a_redis_that_has_lost_its_notes_knows_the_task_by_its_id(shard: Shard, ticks: Ticks, now: int) -> None:
    fire(ticks, Tick("report", now))
    shard.redis("DEL", shard.keys.periodic)
    assert fire(ticks, Tick("report", now)) is Fired.SENT
    assert len(shard.lane()) == 1


def test_what_was_noted_before_the_clock_stepped_back_does_not_last_for_years(ticks: Ticks, now: int) -> None:
    assert fire(ticks, Tick("report", now + 10 * HOUR)) is Fired.SENT
    assert fire(ticks, Tick("report", now, settled=now + 9 * HOUR)) is Fired.SENT
    assert fire(ticks, Tick("other", now + HOUR // 2)) is Fired.SENT
    assert fire(ticks, Tick("other", now)) is Fired.BEFORE


def test_one_that_may_not_overlap_waits_for_the_end_of_the_one_before(hand: Hand, ticks: Ticks, now: int) -> None:
    assert fire(ticks, Tick("report", now, overlap=False)) is Fired.SENT
    assert fire(ticks, Tick("report", now + 1, overlap=False)) is Fired.OVERLAPPED
    [delivery] = hand.claim()
    assert fire(ticks, Tick("report", now + 2, overlap=False)) is Fired.OVERLAPPED
    assert fire(ticks, Tick("report", now + 2, overlap=False)) is Fired.BEFORE
    hand.complete(delivery)
    assert fire(ticks, Tick("report", now + 3, overlap=False)) is Fired.SENT
    assert note(ticks)[:5] == (now + 3, 2, 0, 0, 2)


def test_one_that_is_scheduled_is_on_its_way_too(ticks: Ticks, now: int) -> None:
    assert fire(ticks, Tick("report", now, overlap=False), delay=HOUR) is Fired.SENT
    assert fire(ticks, Tick("report", now + 1, overlap=False)) is Fired.OVERLAPPED


def test_a_taken_idempotency_key_counts_as_overlapping(shard: Shard, ticks: Ticks, now: int) -> None:
    assert fire(ticks, Tick("report", now), idempotency_key="nightly") is Fired.SENT
    assert fire(ticks, Tick("report", now + 1), idempotency_key="nightly") is Fired.OVERLAPPED
    assert len(shard.lane()) == 1


def test_late_and_missed_ticks_are_counted(ticks: Ticks, now: int) -> None:
    fire(ticks, Tick("report", now, late=True, missed=7))
    assert ticks.give_up(Tick("report", now + 5, missed=2)) is Fired.GIVEN_UP
    assert ticks.give_up(Tick("report", now + 5, missed=2)) is Fired.BEFORE
    assert note(ticks)[:5] == (now + 5, 1, 1, 9, 0)


def test_a_full_redis_refuses_and_the_tick_is_fired_later(shard: Shard, ticks: Ticks, now: int) -> None:
    shard.fill_memory()
    with pytest.raises(BrokerFull):
        fire(ticks, Tick("report", now))
    with pytest.raises(BrokerFull):
        ticks.give_up(Tick("report", now))
    shard.empty_memory()
    assert shard.names() == []
    assert fire(ticks, Tick("report", now)) is Fired.SENT


def test_a_redis_that_is_away_is_said_at_once(shard: Shard, ticks: Ticks, now: int, redis_server: Any) -> None:
    redis_server.stop()
    with pytest.raises(BrokerUnavailable):
        fire(ticks, Tick("report", now))


# --- queues with a maximum length -------------------------------------------------------------------------------------


def limited(broker: Broker, *options: Any) -> Shard:
    return Shard(Broker(broker.connections, broker.keys, {"default": QueueOptions(*options)}))


def test_a_full_queue_refuses_and_the_tick_is_fired_when_there_is_room(broker: Broker, hand: Hand, now: int) -> None:
    shard = limited(broker, 2)
    ticks = Ticks(shard.broker)
    shard.seed_waiting(2)
    with pytest.raises(QueueFull, match="max_length=2"):
        fire(ticks, Tick("report", now, missed=3))
    assert note(ticks) == Note()
    hand.settle_all(hand.claim(1))
    assert fire(ticks, Tick("report", now, missed=3)) is Fired.SENT
    assert note(ticks)[:4] == (now, 1, 0, 3)


def test_where_the_oldest_make_room_they_do_once(broker: Broker, now: int) -> None:
    shard = limited(broker, 2, DROP_OLDEST)
    ticks = Ticks(shard.broker)
    first, second = shard.seed_waiting(2)
    tick = Tick("report", now)
    assert [fire(ticks, tick) for _ in range(3)] == [Fired.SENT, Fired.BEFORE, Fired.BEFORE]
    assert shard.ended() == [(first, "failed")]
    assert [fields[b"i"] for _, fields in shard.lane()] == [second, submission(tick).message.id]
    assert fire(ticks, Tick("report", now + 1, overlap=False)) is Fired.OVERLAPPED
    assert fire(ticks, Tick("keyed", now), idempotency_key="nightly") is Fired.SENT
    assert fire(ticks, Tick("keyed", now + 1), idempotency_key="nightly") is Fired.OVERLAPPED
    assert note(ticks, "keyed")[:5] == (now + 1, 1, 0, 0, 1)


def test_a_rate_limit_that_refuses_leaves_the_tick_for_later(shard: Shard, ticks: Ticks, now: int) -> None:
    def refusing(tick: Tick) -> Fired:
        gate = rate_gate("task:t", parse_rate("1/h"), 1, refuse=True)
        return ticks.fire(tick, Submission(gated(gate, id=submission(tick).message.id), "default"))[0]

    assert refusing(Tick("report", now)) is Fired.SENT
    with pytest.raises(RateLimited):
        refusing(Tick("report", now + 1))
    assert note(ticks).tick == now
