"""release: deliveries that this worker will not run go back, in place."""

from __future__ import annotations

from collections.abc import Callable

from django_taskq.broker.delivery import LOST
from django_taskq.core.states import State
from tests.broker.helpers import SETTLED, Hand, Shard, id_of

Hire = Callable[..., Hand]


def test_entry_index_and_losses_stay_and_nobody_holds_it(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    lane, index = shard.lane(), shard.index()
    assert hand.release(delivery) == 1
    assert (shard.lane(), shard.index()) == (lane, index)
    assert shard.pending() == {delivery.entry: (b"returned", 1)}
    found = shard.find(id)
    assert (found.state, found.worker) == (State.QUEUED, "")


def test_released_entries_count_no_loss_however_often(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    hand.die(hand.claim())
    other = hire("w2")
    for _ in range(3):
        [delivery] = other.claim()
        assert delivery.losses == 1
        assert other.release(delivery) == 1


def test_another_worker_runs_it(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    hand.release(delivery)
    other = hire("w2")
    [again] = other.claim()
    assert hand.complete(delivery) == LOST
    assert other.complete(again) is SETTLED
    assert shard.ended() == [(id, "succeeded")]


def test_a_second_sending_releases_nothing(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.release(delivery)
    before = shard.contents()
    assert hand.release(delivery, delivery) == 0
    assert shard.contents() == before
    hire("w2").claim()
    assert hand.release(delivery) == 0
    assert shard.pending() == {delivery.entry: (b"w2", 1)}


def test_only_the_holder_releases(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    assert hire("w2").release(delivery) == 0
    assert shard.pending() == {delivery.entry: (b"w1", 1)}


def test_what_is_gone_is_not_released(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(3)
    first, second, third = hand.claim()
    hand.complete(first)
    assert hand.release(first) == 0
    shard.redis("XGROUP", "DESTROY", second.lane.name, "workers")
    assert hand.release(second) == 0
    shard.redis("DEL", second.lane.name)
    assert hand.release(third) == 0
    assert shard.names("queue:*") == []


def test_five_hundred_in_one_call_wake_as_many_as_sleep(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(500)
    deliveries = hand.claim()
    for number in range(3):
        hire(f"s{number}").sleep()
    assert hand.release(*deliveries) == 500
    assert shard.tokens() == 3


def test_one_released_entry_wakes_one(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hire("w2").sleep()
    hire("w3").sleep()
    hand.release(delivery)
    assert shard.tokens() == 1
    assert hand.release(delivery) == 0
    assert shard.tokens() == 1


def test_a_request_to_cancel_goes_with_it(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(2)
    deliveries = hand.claim()
    assert shard.broker.cancel(ids[:1]) == [False]
    hand.release(*deliveries)
    assert [(id_of(delivery), delivery.cancelled) for delivery in hire("w2").claim()] == [
        (ids[0], True),
        (ids[1], False),
    ]


def test_a_full_redis_takes_them_back(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    deliveries = hand.claim()
    hire("w2").sleep()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert hand.release(*deliveries) == 2
    assert shard.tokens() == 1
    shard.empty_memory()
