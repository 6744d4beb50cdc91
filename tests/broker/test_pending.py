"""pending: what Redis thinks one worker holds, to compare with what it does hold."""

from __future__ import annotations

from collections.abc import Callable

from tests.broker.helpers import Hand, Shard

Hire = Callable[..., Hand]


def listed(hand: Hand) -> list[tuple[bytes, bytes, int]]:
    return [(lane.suffix, entry, losses) for lane, entry, losses in hand.deliveries.pending(hand.connection)]


def test_nothing_is_held_at_first(hand: Hand, shard: Shard) -> None:
    assert listed(hand) == []
    shard.seed_waiting()
    assert listed(hand) == []


def test_everything_of_all_lanes_and_queues_is_listed(shard: Shard, hand: Hand) -> None:
    for queue in ("default", "mail"):
        for priority in (-1, 4):
            shard.seed_waiting(2, queue, priority=priority)
    held = hand.claim(7)
    assert sorted(listed(hand)) == sorted((delivery.lane.suffix, delivery.entry, 0) for delivery in held)


def test_more_than_a_claims_worth_is_listed(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(1200)
    held = [delivery for _ in range(3) for delivery in hand.claim()]
    assert len(listed(hand)) == len(held) == 1200


def test_neither_other_workers_nor_returned_entries_are_listed(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(3)
    first, second = hand.claim(2)
    hire("w2").claim()
    hand.release(first)
    assert listed(hand) == [(b"default:0", second.entry, 0)]


def test_losses_come_with_it(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.die([delivery])
    other = hire("w2")
    other.claim()
    assert listed(other) == [(b"default:0", delivery.entry, 1)]


def test_looking_counts_no_delivery(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    listed(hand)
    [(lane, entry, losses)] = hand.deliveries.pending(hand.connection)
    fetched = hand.deliveries.fetch(hand.connection, lane, entry, losses, 0.0)
    assert fetched is not None
    assert (fetched.fields, fetched.location) == (delivery.fields, delivery.location)
    assert shard.pending() == {delivery.entry: (b"w1", 1)}


def test_an_entry_that_was_deleted_is_acknowledged_when_it_is_fetched(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(2)
    [first, _] = hand.claim()
    shard.redis("XDEL", first.lane.name, first.entry)
    fetched = [hand.deliveries.fetch(hand.connection, *item, 0.0) for item in hand.deliveries.pending(hand.connection)]
    assert [each is None for each in fetched] == [True, False]
    assert len(listed(hand)) == 1


def test_a_delivery_is_found_by_its_location(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(queue="mail", priority=-5)
    [delivery] = hand.claim()
    found = hand.deliveries.find(hand.connection, delivery.location, 0.0)
    assert found is not None
    assert (found.lane, found.entry, found.fields) == (delivery.lane, delivery.entry, delivery.fields)
    hand.settle_all([found])
    assert hand.deliveries.find(hand.connection, delivery.location, 0.0) is None
    assert shard.ended() == [(id, "succeeded")]


def test_a_delivery_that_is_found_knows_its_losses(shard: Shard, hire: Hire) -> None:
    shard.seed_waiting()
    first, second = hire("w1"), hire("w2")
    [delivery] = first.claim()
    shard.workers.declare_dead("w1", None, [delivery.location])
    shard.workers.reclaim("w1")
    second.claim()
    found = second.deliveries.find(second.connection, delivery.location, 0.0)
    assert found is not None
    assert found.losses == 1
    shard.redis("XGROUP", "DESTROY", shard.keys.lane("default", 0), "workers")
    found = second.deliveries.find(second.connection, delivery.location, 0.0)
    assert found is not None
    assert found.losses == 0


def test_a_lane_or_group_that_is_gone_lists_nothing(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.seed_waiting(queue="mail")
    hand.claim()
    shard.redis("XGROUP", "DESTROY", shard.keys.lane("default", 0), "workers")
    shard.redis("DEL", shard.keys.lane("mail", 0))
    assert listed(hand) == []
