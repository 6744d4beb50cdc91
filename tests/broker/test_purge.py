"""purge: what waits in a queue is cancelled; what runs is left alone."""

from __future__ import annotations

import pytest

from django_taskq.broker.inspector import Inspector
from django_taskq.core.ids import new_id
from tests.broker.helpers import HOUR, SETTLED, Hand, Shard


@pytest.fixture
def inspector(shard: Shard) -> Inspector:
    return Inspector(shard.broker)


def test_everything_that_waits_becomes_a_cancelled_outcome(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    ids = shard.seed_waiting(3) + shard.seed_waiting(2, priority=5) + shard.seed_scheduled(2)
    [other] = shard.seed_waiting(queue="mail")
    hand.release(*hand.claim(1))
    assert inspector.purge("default", "cleared") == 7
    assert set(shard.states(ids)) == {"cancelled"}
    assert {outcome.reason for outcome in shard.outcomes()} == {"cleared"}
    assert shard.states([other]) == ["queued"]
    assert [name for name in shard.names() if "default" in name and not name.endswith(":due")] == []
    assert inspector.purge("default") == 0


def test_what_runs_is_left_alone(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    [held, _] = shard.seed_waiting(2)
    [delivery] = hand.claim(1)
    assert inspector.purge("default") == 1
    assert hand.beat() == []
    assert shard.names("cancels") == []
    assert all(name.decode().startswith(shard.keys.tag) for name in shard.redis("KEYS", "*"))
    assert hand.retry(delivery) is SETTLED
    assert shard.states([held]) == ["scheduled"]


def test_more_than_a_batch(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    shard.seed_waiting(1100)
    shard.seed_scheduled(600, delay=HOUR)
    held = hand.claim(50)
    assert inspector.purge("default") == 1650
    assert (len(shard.lane()), shard.scheduled()) == (len(held), {})


def test_what_is_not_a_known_message_is_left_to_a_worker(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    shard.seed_waiting()
    shard.seed_bare("i", new_id(), "t", "t")
    shard.seed_bare("garbage", "x")
    [broken] = shard.seed_scheduled()
    shard.redis("HSET", shard.keys.queue("default").messages, broken, "broken")
    assert inspector.purge("default") == 1
    assert len(hand.claim()) == 2
    assert list(shard.scheduled()) == [broken]


def test_an_unknown_queue_is_empty(shard: Shard, inspector: Inspector) -> None:
    assert inspector.purge("nowhere") == 0
    assert shard.names() == []
