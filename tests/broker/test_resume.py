"""pause and resume: a paused queue is not claimed from; resuming wakes who slept meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker.inspector import Inspector
from tests.broker.helpers import Hand, Shard, id_of

Hire = Callable[..., Hand]


@pytest.fixture
def inspector(shard: Shard) -> Inspector:
    return Inspector(shard.broker)


def test_what_waits_is_claimed_after_resuming(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    assert inspector.pause("default") is True
    assert hand.claim() == []
    assert inspector.resume("default") is True
    assert [id_of(delivery) for delivery in hand.claim()] == [id]


def test_a_second_sending_says_that_nothing_changed(shard: Shard, inspector: Inspector) -> None:
    assert [inspector.pause("default"), inspector.pause("default")] == [True, False]
    assert [inspector.resume("default"), inspector.resume("default")] == [True, False]
    assert shard.names() == []


def test_as_many_are_woken_as_there_are_messages(shard: Shard, inspector: Inspector, hire: Hire) -> None:
    inspector.pause("default")
    for number in range(4):
        hire(f"w{number}").sleep()
    shard.seed_waiting(2, priority=1)
    shard.seed_waiting(1)
    while shard.take_token():
        pass
    inspector.resume("default")
    assert shard.tokens() == 3


def test_one_is_woken_to_learn_what_is_scheduled(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    [id] = shard.seed_scheduled()
    inspector.pause("default")
    assert hand.sleep().next_due is None
    inspector.resume("default")
    assert shard.take_token()
    due = shard.find(id).due
    assert due is not None
    assert hand.sleep().next_due == due / 1000


def test_what_is_held_is_settled_while_its_queue_is_paused(shard: Shard, inspector: Inspector, hand: Hand) -> None:
    ids = shard.seed_waiting(2)
    first, second = hand.claim()
    inspector.pause("default")
    hand.settle_all([first])
    hand.release(second)
    assert hand.claim() == []
    assert shard.states(ids) == ["succeeded", "queued"]
