"""declare_dead: from here on this worker's claims and beats are refused."""

from __future__ import annotations

from django_taskq.broker.delivery import LOST
from tests.broker.helpers import SETTLED, Hand, Shard


def test_an_unchanged_counter_means_dead(shard: Shard, hand: Hand) -> None:
    hand.beat()
    assert shard.workers.declare_dead("w1", 1) is True
    assert shard.workers.counters() == {"w1": -1}
    assert hand.beat() is None
    assert hand.ask().refused


def test_a_worker_that_has_beaten_since_lives(shard: Shard, hand: Hand) -> None:
    hand.beat()
    before = shard.contents()
    assert shard.workers.declare_dead("w1", 0) is False
    assert shard.contents() == before
    assert hand.beat() == []


def test_its_own_supervisor_need_not_compare(shard: Shard, hand: Hand) -> None:
    hand.beat()
    assert shard.workers.declare_dead("w1", None) is True


def test_an_unknown_worker_is_not_dead(shard: Shard) -> None:
    assert shard.workers.declare_dead("w1", 0) is False
    assert shard.workers.declare_dead("w1", None, [b"1-1 default:0"]) is False
    assert shard.names() == []


def test_a_second_sending_says_the_same_and_changes_nothing(shard: Shard, hand: Hand) -> None:
    assert shard.workers.declare_dead("w1", 0, [b"1-1 default:0"]) is True
    before = shard.contents()
    assert shard.workers.declare_dead("w1", 0, [b"2-2 default:0"]) is True
    assert shard.workers.declare_dead("w1", -1) is True
    assert shard.contents() == before


def test_what_it_held_stays_with_it_until_it_is_reclaimed(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(2)
    first, second = hand.claim()
    shard.workers.declare_dead("w1", 0)
    assert shard.pending() == {first.entry: (b"w1", 1), second.entry: (b"w1", 1)}
    assert hand.complete(first) is SETTLED
    shard.workers.reclaim("w1")
    assert hand.complete(second) == LOST


def test_who_is_not_dead_after_all_gets_no_request_twice(shard: Shard, hand: Hand) -> None:
    shard.redis("RPUSH", shard.keys.inbox("w1"), "quiet")
    assert hand.beat() == ["quiet"]
    assert shard.workers.declare_dead("w1", 0) is False
    assert hand.beat() == []


def test_a_full_redis_declares_dead(shard: Shard, hand: Hand) -> None:
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert shard.workers.declare_dead("w1", 0, [b"1-1 default:0"]) is True
    shard.empty_memory()
