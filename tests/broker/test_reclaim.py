"""reclaim: deliveries of a worker that was declared dead go back, in place; what it was running counts as a loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker import scripts, workers
from tests.broker.helpers import SETTLED, Hand, Shard, id_of

Hire = Callable[..., Hand]


def reclaim_some(shard: Shard, worker: str, most: int, queue: str = "default") -> int:
    """One call of the script."""
    keys, of_queue = shard.keys, shard.keys.queue(queue)
    names = (keys.index, keys.workers, keys.worker(worker), of_queue.lanes, of_queue.sleepers, of_queue.wake)
    return int(shard.broker.connections.run(scripts.RECLAIM, (6, *names, worker, most, keys.lane_prefix)))


def consumers(shard: Shard, queue: str = "default", priority: int = 0) -> set[bytes]:
    name = shard.keys.lane(queue, priority)
    return {
        dict(zip(each[::2], each[1::2], strict=True))[b"name"]
        for each in shard.redis("XINFO", "CONSUMERS", name, "workers")
    }


def test_only_what_it_was_running_counts_as_a_loss(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(4)
    held = hand.claim(3)
    lane, index = shard.lane(), shard.index()
    assert hand.die([held[1]]) == 3
    assert (shard.lane(), shard.index()) == (lane, index)
    assert [(id_of(delivery), delivery.losses) for delivery in hire("w2").claim()] == [
        (ids[0], 0), (ids[1], 1), (ids[2], 0), (ids[3], 0),
    ]  # fmt: skip


def test_without_better_knowledge_the_last_beat_says_what_it_was_running(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    shard.seed_waiting(queue="mail", priority=-5)
    first, second, mail = hand.claim()
    hand.beat(running=f"{mail.location.decode()}\n{second.location.decode()}")
    assert hand.die(None) == 3
    assert {delivery.location: delivery.losses for delivery in hire("w2").claim()} == {
        first.location: 0, second.location: 1, mail.location: 1,
    }  # fmt: skip


def test_losses_add_up_over_workers(shard: Shard, hire: Hire) -> None:
    shard.seed_waiting()
    for losses in range(5):
        hand = hire(f"w{losses}")
        [delivery] = hand.claim()
        assert delivery.losses == losses
        hand.die([delivery])


def test_the_living_keep_what_they_hold(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    [mine] = hand.claim(1)
    [other] = hire("w2").claim(1)
    assert shard.workers.reclaim("w2") == reclaim_some(shard, "w2", 500) == reclaim_some(shard, "w3", 500) == 0
    assert shard.workers.counters() == {"w1": 0, "w2": 0}
    assert hand.die() == 1
    assert shard.pending() == {mine.entry: (b"returned", 1), other.entry: (b"w2", 1)}


def test_in_parts_every_delivery_goes_back_once(shard: Shard, hand: Hand, hire: Hire) -> None:
    for priority in range(3):
        shard.seed_waiting(5, priority=priority)
    held = hand.claim()
    shard.workers.declare_dead("w1", None, [delivery.location for delivery in held])
    assert [reclaim_some(shard, "w1", 4) for _ in range(5)] == [4, 4, 4, 3, 0]
    again = hire("w2").claim()
    assert [id_of(delivery) for delivery in again] == [id_of(delivery) for delivery in held]
    assert {delivery.losses for delivery in again} == {1}


def test_more_than_a_batch(shard: Shard, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RECLAIM_BATCH", 7)
    shard.seed_waiting(30)
    shard.seed_waiting(21, "mail", priority=1)
    hand.claim()
    assert hand.die() == 51
    assert shard.workers.counters() == {}


def test_its_consumer_goes_once_nothing_is_pending_with_it(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(3)
    hand.claim(2)
    hire("w2").claim()
    shard.workers.declare_dead("w1", None)
    assert reclaim_some(shard, "w1", 2) == 2
    assert consumers(shard) == {b"w1", b"w2", b"returned"}
    assert reclaim_some(shard, "w1", 2) == 0
    assert consumers(shard) == {b"w2", b"returned"}


def test_a_consumer_without_deliveries_goes_too(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    hand.settle_all(hand.claim(1))
    hire("w2").claim()
    assert hand.die() == 0
    assert consumers(shard) == {b"w2"}


def test_as_many_are_woken_as_came_back(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    shard.seed_waiting(3, "mail")
    hand.claim()
    for number in range(5):
        hire(f"s{number}").sleep()
    hand.die()
    assert (shard.tokens("default"), shard.tokens("mail")) == (2, 3)


def test_it_is_safe_to_repeat(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    held = hand.claim()
    hand.die(held)
    before, pending = shard.contents(), shard.pending()
    assert shard.workers.reclaim("w1") == 0
    assert (shard.contents(), shard.pending()) == (before, pending)
    assert {delivery.losses for delivery in hire("w2").claim()} == {1}


def test_a_lane_or_group_that_is_gone_does_not_stop_it(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.seed_waiting(priority=1)
    shard.seed_waiting(priority=2)
    shard.seed_waiting(queue="mail")
    hand.claim()
    shard.redis("DEL", shard.keys.lane("default", 2))
    shard.redis("XGROUP", "DESTROY", shard.keys.lane("default", 1), "workers")
    assert hand.die() == 2
    assert shard.workers.counters() == {}


def test_entries_that_were_deleted_are_passed_over(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    first, second = hand.claim()
    shard.redis("XDEL", first.lane.name, first.entry)
    hand.die()
    other = hire("w2")
    assert [delivery.entry for delivery in other.claim()] == [second.entry]
    assert other.claim() == []
    assert shard.pending() == {second.entry: (b"w2", 1)}


def test_requests_to_cancel_are_honoured_by_the_next_worker(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    deliveries = hand.claim()
    shard.broker.cancel([id])
    hand.die(deliveries)
    other = hire("w2")
    [delivery] = other.claim()
    assert (delivery.cancelled, delivery.losses) == (True, 1)
    assert other.complete(delivery, "cancelled") is SETTLED
    assert shard.names("cancels") == []


def test_after_everything_was_deleted_there_is_nothing_to_do(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    hand.claim()
    shard.workers.declare_dead("w1", None)
    shard.redis("FLUSHALL")
    assert shard.workers.reclaim("w1") == 0
    assert shard.names() == []


def test_a_full_redis_reclaims(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    held = hand.claim()
    hire("w2").sleep()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert hand.die(held) == 2
    assert shard.tokens() == 1
    shard.empty_memory()
