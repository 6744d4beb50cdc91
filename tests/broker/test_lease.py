"""lease: one recorder at a time; takes or renews the lease."""

from __future__ import annotations

import time

from tests.broker.helpers import Hand, Shard


def test_the_first_begins_at_the_beginning(shard: Shard) -> None:
    assert shard.broker.recorder_lease("r1", 60_000) == "0-0"


def test_another_waits_until_the_lease_is_over(shard: Shard) -> None:
    shard.broker.recorder_lease("r1", 40)
    assert shard.broker.recorder_lease("r2", 60_000) is None
    time.sleep(0.05)
    assert shard.broker.recorder_lease("r2", 60_000) == "0-0"
    assert shard.broker.recorder_lease("r1", 60_000) is None


def test_its_holder_renews_it(shard: Shard) -> None:
    shard.broker.recorder_lease("r1", 1)
    assert shard.broker.recorder_lease("r1", 60_000) == "0-0"
    time.sleep(0.005)
    assert shard.broker.recorder_lease("r2", 60_000) is None


def test_the_next_continues_where_the_cursor_is(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 3)
    shard.broker.recorder_lease("r1", 1)
    entry = shard.broker.read_outcomes("0-0", 2)[-1][0]
    assert shard.broker.advance("r1", "0-0", entry, 2)
    time.sleep(0.005)
    assert shard.broker.recorder_lease("r2", 60_000) == entry
    assert len(shard.broker.read_outcomes(entry, 10)) == 1


def test_a_lease_from_before_the_clock_stepped_back_holds_nobody_up(shard: Shard) -> None:
    shard.broker.recorder_lease("r1", 60_000)
    shard.redis("HINCRBY", shard.keys.recorder, "until", 3_600_000)
    assert shard.broker.recorder_lease("r2", 60_000) == "0-0"


def test_a_refused_recorder_changes_nothing(shard: Shard) -> None:
    shard.broker.recorder_lease("r1", 60_000)
    before = shard.contents()
    assert shard.broker.recorder_lease("r2", 60_000) is None
    assert shard.contents() == before


def test_after_everything_was_deleted_it_begins_again(shard: Shard) -> None:
    shard.broker.recorder_lease("r1", 60_000)
    shard.redis("FLUSHALL")
    assert shard.broker.recorder_lease("r2", 60_000) == "0-0"


def test_a_full_redis_leases(shard: Shard) -> None:
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert shard.broker.recorder_lease("r1", 60_000) == "0-0"
    shard.empty_memory()
