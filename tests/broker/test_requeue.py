"""requeue: a dead letter's task starts a new run, unless it is on its way or that run has been already."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.delivery import LOST
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerFull
from tests.broker.helpers import SETTLED, Hand, Shard, id_of, message

Hire = Callable[..., Hand]


def again(id: bytes, run: int = 2, **values: object) -> Message:
    return message(id=id, run=run, **values)


def forget(shard: Shard, id: bytes) -> None:
    """As after trimming: the outcome is in the database only."""
    shard.redis("DEL", shard.keys.outcomes)
    shard.redis("HDEL", shard.keys.index, id)


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_dead_letters_task_runs_again_under_its_id(shard: Shard, hand: Hand, trimmed: bool) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    if trimmed:
        forget(shard, id)
    assert shard.broker.requeue(again(id, priority=3), "mail") is True
    [delivery] = hand.claim()
    found = shard.find(id)
    assert (found.state, found.queue, found.message and found.message.run) == (State.RUNNING, "mail", 2)
    assert hand.complete(delivery, run=2) is SETTLED
    assert shard.ended()[-1] == (id, "succeeded")


def test_pressed_twice_it_is_sent_once(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    assert [shard.broker.requeue(again(id), "default") for _ in range(3)] == [True, False, False]
    assert len(hand.claim()) == 1


@pytest.mark.parametrize("run", [1, 2, 3, 40_000])
def test_a_run_that_has_been_is_refused(shard: Shard, hand: Hand, run: int) -> None:
    [id] = shard.seed_waiting()
    hand.bury(hand.claim()[0], run=run)
    for refused in {1, run - 1, run} - {0}:
        assert shard.broker.requeue(again(id, refused), "default") is False
    assert hand.claim() == []
    assert shard.broker.requeue(again(id, run + 1), "default") is True


def test_a_run_that_ended_well_is_not_begun_again(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    shard.broker.requeue(again(id), "default")
    hand.complete(hand.claim()[0], run=2)
    before = shard.contents()
    assert shard.broker.requeue(again(id), "default") is False
    assert shard.contents() == before


def test_it_is_refused_while_the_id_is_on_its_way(shard: Shard, hand: Hand) -> None:
    [scheduled], [waiting] = shard.seed_scheduled(), shard.seed_waiting()
    before = shard.contents()
    assert [shard.broker.requeue(again(id), "default") for id in (scheduled, waiting)] == [False, False]
    assert shard.contents() == before
    [delivery] = hand.claim()
    assert shard.broker.requeue(again(waiting), "default") is False
    hand.release(delivery)
    assert shard.broker.requeue(again(waiting), "default") is False
    hand.retry(*hand.claim())
    assert shard.broker.requeue(again(waiting), "default") is False


def test_a_place_that_is_gone_does_not_refuse_for_ever(shard: Shard) -> None:
    [waiting], [scheduled] = shard.seed_waiting(), shard.seed_scheduled()
    shard.redis("DEL", shard.keys.lane("default", 0), shard.keys.queue("default").scheduled)
    assert shard.broker.requeue(again(waiting), "default") is True
    assert shard.broker.requeue(again(scheduled), "default") is True
    assert shard.states([waiting, scheduled]) == ["queued", "queued"]


def test_an_unreadable_outcome_does_not_refuse(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    for blob in (b"", b"x", b"\xdc\x00\x19" + b"\xff" * 30):
        entry = shard.redis("XADD", shard.keys.outcomes, "*", "i", id, "o", blob)
        shard.redis("HSET", shard.keys.index, id, b"o" + entry)
        assert shard.broker.requeue(again(id), "default") is True
        hand.settle_all(hand.claim(), "failed")


def test_the_old_runs_worker_settles_nothing_of_the_new_one(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    hand.bury(delivery)
    shard.broker.requeue(again(id), "default")
    assert hand.complete(delivery) == LOST
    [new] = hire("w2").claim()
    assert hand.complete(delivery) == LOST
    assert shard.find(id).worker == "w2"
    assert id_of(new) == id


def test_it_takes_a_free_idempotency_key_and_leaves_a_taken_one(shard: Shard, hand: Hand) -> None:
    first, second = new_id(), new_id()
    assert shard.broker.requeue(again(first, idempotency_key="k"), "default") is True
    assert shard.owner("k") == first
    assert shard.broker.requeue(again(second, idempotency_key="k"), "default") is True
    assert shard.owner("k") == first
    one, two = hand.claim()
    hand.complete(two, key="k", ttl=60_000, run=2)
    assert (shard.owner("k"), shard.key_ttl("k")) == (first, -1)
    hand.complete(one, "discarded", key="k", run=2)
    assert shard.owner("k") is None


def test_a_sleeper_is_woken(shard: Shard, hand: Hand) -> None:
    hand.sleep()
    shard.broker.requeue(again(new_id()), "default")
    assert shard.tokens() == 1
    shard.broker.requeue(again(new_id()), "mail")
    assert shard.tokens("mail") == 1


def test_a_producers_late_repetition_of_the_first_run_stays_refused(shard: Shard, hand: Hand) -> None:
    first = Submission(message(), "default")
    shard.send([first])
    hand.bury(hand.claim()[0])
    shard.broker.requeue(again(first.message.id), "default")
    shard.send([first])
    assert len(hand.claim()) == 1


def test_a_full_redis_takes_nothing(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    before = shard.contents()
    shard.fill_memory()
    with pytest.raises(BrokerFull):
        shard.broker.requeue(again(id, idempotency_key="k"), "default")
    shard.empty_memory()
    assert shard.contents() == before
