"""trim: recorded outcomes leave Redis; what is not recorded is never trimmed."""

from __future__ import annotations

import time

import pytest

from django_taskq.core.message import Message
from django_taskq.core.states import State
from tests.broker.helpers import HOUR, Hand, Shard, outcome_for


def record(shard: Shard, count: int = 1_000_000, owner: str = "r1") -> str:
    """So many more outcomes are in the database; the cursor."""
    cursor = shard.broker.recorder_lease(owner, 60_000)
    assert cursor is not None
    entries = shard.broker.read_outcomes(cursor, count)
    if entries:
        assert shard.broker.advance(owner, cursor, entries[-1][0], len(entries))
        cursor = entries[-1][0]
    return cursor


def trim_all(shard: Shard) -> int:
    return shard.broker.trim("r1", 0, 0, 0)


def test_recorded_outcomes_leave_with_their_index(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_ended(hand, 3)
    record(shard)
    assert trim_all(shard) == 3
    assert shard.states(ids) == [None] * 3
    assert shard.names("index") == []
    assert (shard.redis("XLEN", shard.keys.outcomes), shard.broker.recorder_lag()) == (0, 0)


def test_what_is_not_recorded_stays(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_ended(hand, 5)
    assert trim_all(shard) == 0
    shard.broker.recorder_lease("r1", 60_000)
    assert trim_all(shard) == 0
    record(shard, 2)
    assert trim_all(shard) == 2
    assert trim_all(shard) == 0
    assert shard.states(ids) == [None, None, *["succeeded"] * 3]
    assert shard.broker.recorder_lag() == 3


@pytest.mark.parametrize(
    ("window", "floor", "newest", "trimmed"),
    [
        (HOUR, HOUR, 0, 0),  # too young for either
        (HOUR, 0, 10, 0),  # as many as may stay
        (HOUR, 0, 4, 6),  # more than may stay
        (HOUR, 0, 0, 10),
        (0, HOUR, 10, 10),  # older than the window
    ],
)
def test_age_and_number_decide(shard: Shard, hand: Hand, window: int, floor: int, newest: int, trimmed: int) -> None:
    ids = shard.seed_ended(hand, 10)
    record(shard)
    assert shard.broker.trim("r1", window, floor, newest) == trimmed
    assert shard.states(ids) == [None] * trimmed + ["succeeded"] * (10 - trimmed)
    assert shard.broker.trim("r1", window, floor, newest) == 0


def test_the_newest_stay_over_several_rounds(shard: Shard, hand: Hand) -> None:
    for _ in range(3):
        shard.seed_ended(hand, 4)
        record(shard)
        shard.broker.trim("r1", HOUR, 0, 5)
        assert shard.redis("XLEN", shard.keys.outcomes) <= 5
    assert shard.redis("XLEN", shard.keys.outcomes) == 5


def test_outcomes_younger_than_the_floor_stay_however_many(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 3)
    time.sleep(0.06)
    shard.seed_ended(hand, 3)
    record(shard)
    assert shard.broker.trim("r1", HOUR, 50, 0) == 3


def test_500_at_a_time(shard: Shard, hand: Hand) -> None:
    for _ in range(3):
        shard.seed_ended(hand, 400)
    record(shard)
    assert [trim_all(shard) for _ in range(4)] == [500, 500, 200, 0]
    assert shard.names("index") == []


def test_large_outcomes_are_trimmed_a_few_at_a_time(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(30)
    for delivery in hand.claim():
        hand.complete(delivery, result=b" " * 300_000)
    shard.seed_ended(hand, 30)
    record(shard)
    trimmed = [trim_all(shard)]
    while trimmed[-1]:
        trimmed.append(trim_all(shard))
    assert sum(trimmed) == 60
    assert max(trimmed[:3]) <= 8
    assert (shard.names("index"), shard.broker.recorder_lag()) == ([], 0)


@pytest.mark.parametrize(("newest", "trimmed"), [(10, 0), (1, 2)])
def test_after_the_clock_stepped_back_the_number_decides(shard: Shard, hand: Hand, newest: int, trimmed: int) -> None:
    hour_ahead = int(shard.broker.time() * 1000) + HOUR
    for number in range(3):
        shard.redis("XADD", shard.keys.outcomes, f"{hour_ahead}-{number}", "i", bytes(16), "o", outcome_for(bytes(16)))
    record(shard)
    assert shard.broker.trim("r1", 0, 0, newest) == trimmed


def test_a_later_run_keeps_its_index(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_ended(hand, 3, status="failed")
    record(shard)
    again = [Message(id, "t", run=2) for id in ids]
    assert [shard.broker.requeue(message, "default") for message in again[:2]] == [True, True]
    first, _ = hand.claim()
    hand.complete(first, run=2)
    assert trim_all(shard) == 3
    assert shard.states(ids) == [State.SUCCEEDED, State.RUNNING, None]
    assert shard.broker.requeue(again[0], "default") is False


def test_a_lost_reply_trims_no_more(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 6)
    record(shard, 3)
    assert shard.broker.trim("r1", HOUR, 0, 2) == 1
    assert shard.broker.trim("r1", HOUR, 0, 2) == 0
    assert shard.broker.recorder_lag() == 3


def test_only_the_holder_of_the_lease_trims(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand)
    record(shard)
    assert shard.broker.trim("r2", 0, 0, 0) == 0
    assert len(shard.outcomes()) == 1


def test_the_bound_of_unrecorded_outcomes_counts_only_those(shard: Shard, hire: object, hand: Hand) -> None:
    shard.seed_ended(hand, 6)
    record(shard, 4)
    assert shard.broker.recorder_lag() == 2
    shard.broker.trim("r1", HOUR, 0, 1)
    assert shard.broker.recorder_lag() == 2


def test_a_stream_that_somebody_deleted_is_counted_from_zero_again(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 6)
    record(shard)
    shard.redis("DEL", shard.keys.outcomes)
    assert trim_all(shard) == 0
    shard.seed_ended(hand, 2)
    assert shard.broker.recorder_lag() == 2


def test_a_key_of_a_trimmed_success_still_answers(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(idempotency_key="k")
    hand.complete(hand.claim()[0], key="k", ttl=60_000)
    record(shard)
    trim_all(shard)
    assert shard.owner("k") == id


def test_an_outcome_that_cannot_be_read_is_trimmed_too(shard: Shard, hand: Hand) -> None:
    shard.redis("XADD", shard.keys.outcomes, "*", "odd", "fields", "and", "more")
    shard.redis("XADD", shard.keys.outcomes, "*", "odd", "")
    shard.seed_ended(hand)
    assert [outcome is None for _, outcome in shard.broker.read_outcomes("0-0", 10)] == [True, True, False]
    record(shard)
    assert trim_all(shard) == 3


def test_a_full_redis_trims(shard: Shard, hand: Hand) -> None:
    shard.seed_ended(hand, 3)
    record(shard)
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert trim_all(shard) == 3
    shard.empty_memory()
    assert shard.names("index") == []
