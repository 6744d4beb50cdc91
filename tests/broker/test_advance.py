"""advance: the outcomes up to a cursor are in the database; compare-and-set by the holder of the lease."""

from __future__ import annotations

import time

from tests.broker.helpers import Hand, Shard


def test_the_cursor_moves_and_the_rest_remains_to_be_recorded(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 5)
    cursor = shard.broker.recorder_lease("r1", 60_000) or ""
    assert shard.broker.recorder_lag() == 5
    entries = [entry for entry, _ in shard.broker.read_outcomes(cursor, 3)]
    assert shard.broker.advance("r1", cursor, entries[-1], 3) is True
    assert shard.broker.recorder_lag() == 2
    assert len(shard.broker.read_outcomes(entries[-1], 10)) == 2


def test_a_second_sending_is_refused_and_counts_nothing(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 2)
    shard.broker.recorder_lease("r1", 60_000)
    entry = shard.broker.read_outcomes("0-0", 10)[-1][0]
    assert shard.broker.advance("r1", "0-0", entry, 2) is True
    before = shard.contents()
    assert shard.broker.advance("r1", "0-0", entry, 2) is False
    assert shard.contents() == before


def test_who_lost_the_lease_moves_nothing(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 2)
    shard.broker.recorder_lease("r1", 1)
    time.sleep(0.005)
    shard.broker.recorder_lease("r2", 60_000)
    before = shard.contents()
    entry = shard.broker.read_outcomes("0-0", 10)[-1][0]
    assert shard.broker.advance("r1", "0-0", entry, 2) is False
    assert shard.contents() == before
    assert shard.broker.advance("r2", "0-0", entry, 2) is True


def test_without_a_lease_nothing_moves(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand)
    assert shard.broker.advance("r1", "0-0", "5-5", 1) is False
    assert shard.names("recorder") == []


def test_a_full_redis_advances(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand)
    shard.broker.recorder_lease("r1", 60_000)
    entry = shard.broker.read_outcomes("0-0", 10)[-1][0]
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert shard.broker.advance("r1", "0-0", entry, 1) is True
    shard.empty_memory()
