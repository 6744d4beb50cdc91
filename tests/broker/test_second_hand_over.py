"""Messages that are handed over a second time, as their worker died or gave them back: limits hold for these too."""

from __future__ import annotations

import itertools

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.delivery import Delivery
from django_taskq.core.gates import breaker_gate, concurrency_gate, pack_queue_gates, rate_gate
from django_taskq.core.message import Message
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import Rate, parse_rate
from tests.broker.helpers import HOUR, Hand, Shard, id_of
from tests.broker.test_limits import gated, holders, nothing_is_held, open_breaker, send
from tests.broker.test_rate import drain, most_in_a_window
from tests.broker.test_rate import send as send_rated

LIMITED = pack_queue_gates({"default": QueueOptions(max_concurrency=1)})


def drained(hand: Hand) -> list[bytes]:
    """Runs what there is, one claim after the other; the ids in that order. Never is more than one handed over."""
    ended: list[bytes] = []
    while deliveries := hand.claim():
        assert len([each for each in deliveries if not each.instead]) <= 1
        ended += [id_of(each) for each in deliveries if not each.instead]
        hand.settle_all(deliveries)
    return ended


def test_a_call_to_be_discarded_whose_worker_died_does_not_run_without_a_place(shard: Shard, hand: Hand) -> None:
    first, second = send(shard, 2, conflict="discard")
    running, conflicting = hand.claim()
    assert (running.instead == "", conflicting.instead != "") == (True, True)
    assert hand.release(conflicting) == 1
    other = Hand(shard, "w2")
    [again] = other.claim()
    assert (id_of(again), again.instead) == (second, conflicting.instead)
    hand.complete(running)
    hand = Hand(shard, "w3")
    other.die()
    [again] = hand.claim()  # now there is room
    assert (id_of(again), again.instead, holders(shard)) == (second, "", {second})
    assert first not in holders(shard)


def test_a_replaced_call_whose_worker_died_does_not_run(shard: Shard, hand: Hand) -> None:
    send(shard, conflict="replace")
    [running] = hand.claim()
    older = send(shard, conflict="replace")
    hand.claim()
    newest = send(shard, conflict="replace")
    assert [id_of(each) for each in [*hand.claim(), *hand.claim()]] == older
    hand.die([running])
    other = Hand(shard, "w2")
    claimed = other.claim()
    assert [(id_of(each), bool(each.instead)) for each in claimed] == [(id_of(running), False), (older[0], True)]
    other.settle_all(claimed)
    assert drained(other) == newest
    assert nothing_is_held(shard)


def test_what_was_handed_over_before_its_queue_had_a_limit_needs_a_place_to_come_back(shard: Shard) -> None:
    unlimited, limited = Hand(shard, "old"), Hand(shard, "new", gates=LIMITED)
    ids = shard.seed_waiting(4)
    held = unlimited.claim()
    assert len(held) == 4
    assert unlimited.release(*held[:2]) == 2
    unlimited.die([held[2]])  # the others were killed with it
    assert drained(limited) == ids
    assert nothing_is_held(shard)


def test_losses_go_along_to_wherever_it_waits(shard: Shard) -> None:
    unlimited, limited = Hand(shard, "old"), Hand(shard, "new", gates=LIMITED)
    first, second = shard.seed_waiting(2)
    unlimited.die(unlimited.claim())
    [delivery] = limited.claim()
    assert (id_of(delivery), delivery.losses) == (first, 1)
    assert shard.states([first, second]) == ["running", "blocked"]
    limited.complete(delivery)
    [delivery] = limited.claim()
    assert (id_of(delivery), delivery.losses, Message.decode(delivery.fields).losses) == (second, 0, 1)


def test_a_second_hand_over_counts_as_a_start_and_goes_before_those_who_wait(shard: Shard, hand: Hand) -> None:
    sent = send_rated(shard, 3, "1/h")
    hand.die(hand.claim())
    other = Hand(shard, "w2")
    assert other.claim() == []
    due = shard.scheduled()
    assert due[sent[0]] == pytest.approx(shard.broker.time() * 1000 + 3_643_200, abs=2_000)
    assert min(due, key=lambda id: (due[id], id)) == sent[0]
    shard.pass_time(3_644_000)  # the schedule's time alone: all that is due finds the plan where it was
    assert other.claim() == []
    assert shard.scheduled()[sent[0]] == due[sent[0]]


@pytest.mark.parametrize("burst", [1, 5])
def test_workers_that_die_all_the_time_do_not_start_more_than_the_rate_allows(shard: Shard, burst: int) -> None:
    rate = Rate(10, 0.1)
    sent = send_rated(shard, 12, rate, burst=burst)
    hands = (Hand(shard, f"w{number}") for number in itertools.count())
    moments: list[float] = []
    ended: set[bytes] = set()
    for hand in hands:
        handed = drain(hand, 1.0, until=3)
        moments += [moment for moment, _ in handed]
        if len(ended) < len(sent) and len(moments) < 24:
            hand.die()
            continue
        ended |= {id for _, id in handed}
        hand.settle_all(held_by(hand))
        if ended == set(sent):
            break
    assert most_in_a_window(moments, 0.1) <= 10 + burst - 1
    assert nothing_is_held(shard)


def held_by(hand: Hand) -> list[Delivery]:
    pending = hand.deliveries.pending(hand.connection)
    found = [hand.deliveries.fetch(hand.connection, *item, 0.0) for item in pending]
    return [each for each in found if each is not None]


def test_one_that_comes_back_to_an_open_breaker_waits(shard: Shard, hand: Hand) -> None:
    [id] = shard.send([Submission(gated(breaker_gate("crm", HOUR)), "default")])
    hand.die(hand.claim())
    open_breaker(shard)
    assert Hand(shard, "w2").claim() == []
    assert shard.find(id).state == "scheduled"


def test_a_try_of_a_breaker_whose_worker_died_is_tried_again(shard: Shard, hand: Hand) -> None:
    [id] = shard.send([Submission(gated(breaker_gate("crm", 1)), "default")])
    shard.redis("HSET", shard.keys.breaker_prefix + "crm", "u", "1")  # half open
    hand.die(hand.claim())
    assert [id_of(each) for each in Hand(shard, "w2").claim()] == [id]


def test_a_place_is_held_by_others_while_a_second_hand_over_waits_for_its_moment(shard: Shard, hand: Hand) -> None:
    gates = (concurrency_gate("task:t", 1), rate_gate("task:t", parse_rate("1/h"), 1))
    [rated] = shard.send([Submission(gated(*gates), "default")])
    [plain] = send(shard, limit="task:t")
    hand.claim()
    assert shard.find(plain).state == "blocked"
    hand.die()
    assert [id_of(each) for _ in range(2) for each in Hand(shard, "w2").claim()] == [plain]
    assert shard.find(rated).state == "scheduled"


def test_cancelling_was_requested_while_its_worker_died(shard: Shard, hand: Hand) -> None:
    [id] = send_rated(shard, 1, "1/h")
    hand.claim()
    assert shard.broker.cancel([id]) == [False]
    hand.die()
    [delivery] = Hand(shard, "w2").claim()
    assert (id_of(delivery), delivery.cancelled) == (id, True)
