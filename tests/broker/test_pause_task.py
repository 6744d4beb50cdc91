"""Pausing one task: its messages wait, whatever their lane, and others pass them."""

from __future__ import annotations

import pytest

from django_taskq.broker.gates import Gates
from django_taskq.core.message import Message
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import holders, nothing_is_held, send


@pytest.fixture
def gates(shard: Shard) -> Gates:
    return Gates(shard.broker.connections, shard.keys)


def test_a_paused_task_waits_and_others_pass(shard: Shard, hand: Hand, gates: Gates) -> None:
    ids = [*shard.seed_waiting(3), *shard.seed_waiting(1, priority=7)]
    others = shard.seed_waiting(2, task="other")
    assert (gates.pause("t"), gates.pause("t"), gates.paused()) == (True, False, ["t"])
    assert [id_of(each) for each in hand.claim()] == others
    assert shard.states(ids) == ["blocked"] * 4
    assert hand.claim() == []
    assert (gates.resume("t"), gates.resume("t"), gates.paused()) == (True, False, [])
    assert [id_of(each) for each in hand.claim()] == [ids[3], *ids[:3]]


def test_thousands_come_back_in_order(shard: Shard, hand: Hand, gates: Gates) -> None:
    ids = shard.seed_waiting(1200)
    gates.pause("t")
    for _ in range(3):
        assert hand.claim() == []
    assert shard.states(ids) == ["blocked"] * 1200
    gates.resume("t")
    assert [id_of(each) for _ in range(3) for each in hand.claim()] == ids
    assert "limits" not in "".join(shard.names())


def test_resuming_wakes_a_sleeper(shard: Shard, hand: Hand, gates: Gates) -> None:
    shard.seed_waiting()
    gates.pause("t")
    hand.claim()
    hand.sleep()
    gates.resume("t")
    assert shard.take_token()


def test_what_is_sent_while_it_is_paused_waits_too(shard: Shard, hand: Hand, gates: Gates) -> None:
    gates.pause("t")
    ids = shard.seed_waiting(2, queue="mail") + shard.seed_scheduled(1)
    shard.pass_time()
    shard.seed_bare(*Message(b"x" * 16, "t").fields())
    assert [hand.claim(), hand.claim(), hand.claim()] == [[], [], []]
    assert shard.states([*ids, b"x" * 16]) == ["blocked"] * 4


def test_what_came_back_from_a_worker_waits_with_its_losses(shard: Shard, hand: Hand, gates: Gates) -> None:
    [id] = shard.seed_waiting()
    hand.die(hand.claim())
    gates.pause("t")
    other = Hand(shard, "w2")
    assert other.claim() == []
    assert shard.find(id).state == "blocked"
    gates.resume("t")
    [delivery] = other.claim()
    assert (Message.decode(delivery.fields).losses, delivery.losses) == (1, 0)


def test_a_paused_task_gives_its_place_back(shard: Shard, hand: Hand, gates: Gates) -> None:
    ids = send(shard, task="t") + send(shard, task="other")
    hand.release(*hand.claim())
    assert holders(shard) == {ids[0]}
    gates.pause("t")
    assert [id_of(each) for each in [*hand.claim(), *hand.claim()]] == [ids[1]]
    assert holders(shard) == {ids[1]}


def test_who_waits_can_be_cancelled(shard: Shard, hand: Hand, gates: Gates) -> None:
    [id] = shard.seed_waiting()
    gates.pause("t")
    hand.claim()
    assert shard.broker.cancel([id]) == [True]
    gates.resume("t")
    assert hand.claim() == []
    assert nothing_is_held(shard)


def test_a_resumption_that_was_interrupted_is_finished_by_a_sweep(shard: Shard, hand: Hand, gates: Gates) -> None:
    ids = shard.seed_waiting(3)
    gates.pause("t")
    hand.claim()
    shard.redis("SREM", shard.keys.paused, "task:t")  # the next line was never reached
    assert gates.sweep(["default"]).went_on == 3
    assert [id_of(each) for each in hand.claim()] == ids
