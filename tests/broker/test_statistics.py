"""What each minute's hash says, written by the scripts and read for charts."""

from __future__ import annotations

import pytest

from django_taskq.broker.delivery import complete
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.statistics import Activity, Depth, Minute, Statistics
from django_taskq.broker.submission import Submission
from django_taskq.core.activity import activity
from tests.broker.helpers import Hand, Shard, id_of, message, outcome_for


@pytest.fixture
def statistics(shard: Shard) -> Statistics:
    return Statistics(shard.broker)


def now(shard: Shard) -> int:
    return int(shard.broker.time() // 60)


def lately(shard: Shard, statistics: Statistics) -> Minute:
    """All that happened in the test, which may have begun a minute earlier."""
    last, *minutes = reversed(statistics.minutes(now(shard) - 2, now(shard)))
    for minute in minutes:
        last.total.add(minute.total)
        for mine, theirs in ((last.tasks, minute.tasks), (last.queues, minute.queues)):
            for name, counts in theirs.items():
                mine.setdefault(name, Activity()).add(counts)  # type: ignore[call-overload]
    return last


def end(hand: Hand, task: str, wait: float, run: float) -> None:
    [delivery] = hand.claim(1)
    outcome = outcome_for(id_of(delivery), "succeeded")
    hand.settle([complete(delivery, id_of(delivery), "succeeded", outcome, activity("succeeded", task, wait, run))])


def test_every_end_is_counted_under_its_task_and_in_all(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    shard.seed_waiting(6)
    first, second, third, fourth, fifth, _ = hand.claim(6)
    hand.settle([hand.completing(first), hand.completing(second), hand.burying(third), hand.retrying(fourth)])
    hand.settle([hand.completing(fifth, "discarded")])
    minute = lately(shard, statistics)
    for counts in (minute.total, minute.tasks["default", "t"], minute.queues["default"]):
        assert (counts.succeeded, counts.failed, counts.retried, counts.discarded) == (2, 1, 1, 1)
        assert sum(counts.waits.values()) == sum(counts.runs.values()) == 5
    assert minute.total.ended == 4
    assert minute.total.failure_ratio == pytest.approx(1 / 3)
    assert minute.queues["default"].enqueued == minute.total.enqueued == 6


def test_percentiles_come_from_what_was_settled(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    shard.seed_waiting(20)
    for number in range(20):
        end(hand, "slow", 0.02, 5.0 if number > 17 else 0.1)
    counts = lately(shard, statistics).tasks["default", "slow"]
    assert counts.run(0.5) == pytest.approx(0.1, rel=0.25)
    assert counts.run(0.99) == pytest.approx(5.0, rel=0.25)
    assert counts.wait(0.95) == pytest.approx(0.02, rel=0.25)


def test_what_is_not_settled_is_not_counted(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.complete(delivery)
    hand.complete(delivery)
    assert lately(shard, statistics).total.succeeded == 1


def test_cancelling_what_waits_and_what_is_scheduled_counts(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    ids = [*shard.seed_waiting(), *shard.seed_scheduled()]
    assert shard.broker.cancel(ids) == [True, True]
    shard.seed_waiting(3)
    assert Inspector(shard.broker).purge("default") == 3
    minute = lately(shard, statistics)
    assert minute.tasks["default", "t"].cancelled == minute.total.cancelled == 5
    assert minute.total.waits == {}
    assert minute.total.enqueued == 5


def test_a_submission_that_is_sent_twice_counts_once(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    submission = Submission(message(), "default")
    shard.broker.enqueue([submission])
    shard.broker.enqueue([submission])
    assert lately(shard, statistics).total.enqueued == 1


def test_task_names_are_bounded(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    shard.seed_waiting(700)
    deliveries = hand.claim(500) + hand.claim(500)
    made = []
    for number, delivery in enumerate(deliveries):
        outcome = outcome_for(id_of(delivery), "succeeded")
        text = activity("succeeded", f"task{number:03}\n:x", 0.0, 0.0)
        made.append(complete(delivery, id_of(delivery), "succeeded", outcome, text))
    for each in made:
        hand.settle([each])
    minute = lately(shard, statistics)
    assert 490 < len(minute.tasks) < 1010  # two minutes, perhaps
    assert minute.tasks["default", "task000\n:x"].succeeded == 1
    assert minute.queues["default"].succeeded == minute.total.succeeded == 700


def test_minutes_go_away_by_themselves(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    hand.complete(hand.claim()[0])
    for name in shard.redis("KEYS", f"{shard.keys.stats_prefix}*"):
        assert 48 * 3600 < int(shard.redis("TTL", name)) <= 49 * 3600


def test_a_minute_in_which_tasks_only_end_goes_away_too(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("DEL", *shard.redis("KEYS", f"{shard.keys.stats_prefix}*"))
    hand.complete(delivery)
    [name] = shard.redis("KEYS", f"{shard.keys.stats_prefix}*")
    assert 48 * 3600 < int(shard.redis("TTL", name)) <= 49 * 3600


def test_a_minute_that_somebody_broke_hinders_no_settlement(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    for minute in (now(shard), now(shard) + 1):
        shard.redis("HSET", f"{shard.keys.stats_prefix}{minute}", "all", b"\xc1\xff")
    shard.seed_ended(hand)
    assert lately(shard, statistics).total.succeeded == 1


def test_depths_are_noted_and_read_with_the_totals(shard: Shard, hand: Hand, statistics: Statistics) -> None:
    minute = now(shard)
    statistics.sample(minute, {"default": Depth(3, 4), "mail": Depth(0, 1)})
    shard.seed_ended(hand)
    found = statistics.totals(minute - 1, minute + 1, ["default", "mail"])
    assert [each.minute for each in found] == [minute - 1, minute, minute + 1]
    assert found[0] == Minute(minute - 1)
    assert found[1].depths == {"default": Depth(3, 4), "mail": Depth(0, 1)}
    assert sum(each.total.succeeded for each in found) == 1
    assert sum(each.queues["default"].enqueued for each in found if each.queues) == 1
    assert found[1].tasks == {}
