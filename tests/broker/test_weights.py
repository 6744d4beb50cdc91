"""Claims of a worker whose queues have weights."""

from __future__ import annotations

from collections import Counter

from tests.broker.helpers import Hand, Shard

QUEUES, WEIGHTS = ("critical", "default", "low"), (6, 3, 1)


def weighted(shard: Shard) -> Hand:
    return Hand(shard, "w1", QUEUES, weights=WEIGHTS)


def test_queues_share_a_worker_by_their_weights(shard: Shard) -> None:
    for queue in QUEUES:
        shard.seed_waiting(100, queue)
    hand = weighted(shard)
    taken = [delivery.lane.queue for _ in range(50) for delivery in hand.claim(2)]
    assert Counter(taken) == {"critical": 60, "default": 30, "low": 10}
    assert "low" in taken[:12]


def test_a_claim_is_filled_from_whoever_has_something(shard: Shard) -> None:
    shard.seed_waiting(1, "critical")
    shard.seed_waiting(9, "low")
    hand = weighted(shard)
    assert len(hand.claim(10)) == 10


def test_one_queue_after_the_other_sleeps_wakes_and_is_promoted_as_ever(shard: Shard) -> None:
    hand = weighted(shard)
    shard.seed_waiting(40, "low")
    hand.claim(30)
    hand.claim(30)
    claim = hand.sleep()
    assert claim.next_due is None
    shard.seed_scheduled(1, "default")
    shard.pass_time()
    [delivery] = hand.ask(awake=False).deliveries
    assert delivery.lane.queue == "default"
