"""Rate limits: planned starts, and what becomes of the plan when time stands still."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.gates import Gates
from django_taskq.core.gates import concurrency_gate, pack_queue_gates, rate_gate
from django_taskq.core.message import Message
from django_taskq.exceptions import RateLimited
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import Rate, parse_rate
from tests.broker.helpers import Hand, Shard, id_of, message
from tests.broker.test_limits import gated


def send(
    shard: Shard, count: int, rate: str | Rate, *, burst: int = 1, limit: str = "task:t", **values: Any
) -> list[bytes]:
    gate = rate_gate(limit, parse_rate(rate), burst)
    return shard.send([Submission(gated(gate, **values), "default") for _ in range(count)])


def ids(hand: Hand) -> list[bytes]:
    return [id_of(each) for each in hand.claim()]


def drain(hand: Hand, seconds: float, pause: float = 0.0005, until: int = 10_000) -> list[tuple[float, bytes]]:
    """What is handed over in that time, until it is so much, and when, on Redis' clock."""
    handed, end = [], time.monotonic() + seconds
    while time.monotonic() < end and len(handed) < until:
        claim = hand.ask()
        handed += [(claim.time, id_of(each)) for each in claim.deliveries]
        time.sleep(pause)
    return handed


def most_in_a_window(moments: list[float], window: float) -> int:
    """Starts in any half-open window of that length."""
    return max((sum(start <= other < start + window for other in moments) for start in moments), default=0)


def test_the_first_starts_and_the_others_get_slots_one_interval_apart(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 4, "1/h")
    assert ids(hand) == sent[:1]
    due = shard.scheduled()
    assert [due[sent[n + 1]] - due[sent[n]] for n in (1, 2)] == pytest.approx([3_643_200] * 2, abs=1)
    assert shard.states(sent) == ["running", "scheduled", "scheduled", "scheduled"]
    assert ids(hand) == []


def test_nobody_is_asked_again_before_the_slot(shard: Shard, hand: Hand) -> None:
    send(shard, 3, "1/h")
    hand.claim()
    before = shard.contents()
    claim = hand.ask()
    assert claim.next_due is not None
    assert claim.next_due > claim.time + 3_600
    assert shard.contents() == before


def test_starts_are_in_order_and_never_too_many_in_any_window(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 40, "10/s", limit="task:slow") + send(shard, 60, "100/s")
    handed = drain(hand, 0.7)
    for limit, rate in ((sent[:40], 10), (sent[40:], 100)):
        mine = [each for each in handed if each[1] in limit]
        assert [id for _, id in mine] == limit[: len(mine)]
        moments = [moment for moment, _ in mine]
        assert most_in_a_window(moments, 1.0) <= rate
        gaps = [later - moment for moment, later in itertools.pairwise(moments)]
        assert min(gaps) >= 1 / rate * 1.012 - 0.006 - 0.001
        assert len(moments) >= 0.2 * 0.7 * rate  # however busy the machine is


def test_after_a_stall_they_do_not_all_start_at_once(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 50, "20/s")
    assert ids(hand) == sent[:1]
    time.sleep(0.8)  # some fifteen slots pass
    handed = drain(hand, 0.5)
    assert [id for _, id in handed] == sent[1 : len(handed) + 1]
    assert 2 <= len(handed) <= 11
    assert most_in_a_window([moment for moment, _ in handed], 0.25) <= 6


def test_an_earlier_slot_that_is_met_after_the_plan_was_moved_is_replaced(shard: Shard, hand: Hand) -> None:
    low = send(shard, 3, "20/s", priority=-5)
    ids(hand)
    high = send(shard, 3, "20/s", priority=5)
    ids(hand)
    time.sleep(0.4)  # all slots pass
    handed = drain(hand, 5, until=5)
    assert {id for _, id in handed} == {*low[1:], *high}
    gaps = [later[0] - moment[0] for moment, later in itertools.pairwise(handed)]
    assert min(gaps) > 0.03


def test_a_burst_may_start_at_once(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 8, "1/h", burst=5)
    assert ids(hand) == sent[:5]
    assert shard.states(sent[5:]) == ["scheduled"] * 3


def test_keys_have_slots_of_their_own(shard: Shard, hand: Hand) -> None:
    a, b = send(shard, 2, "1/h", limit="task:t:a"), send(shard, 2, "1/h", limit="task:t:b")
    assert set(ids(hand)) == {a[0], b[0]}


def test_other_tasks_pass(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 300, "1/h")
    plain = shard.seed_waiting(2)
    assert set(ids(hand)) == {sent[0], *plain}


def test_a_retry_needs_a_new_slot(shard: Shard, hand: Hand) -> None:
    [first] = send(shard, 1, "1/h")
    [delivery] = hand.claim()
    hand.retry(delivery, 0)
    assert ids(hand) == []
    assert shard.scheduled()[first] > shard.broker.time() * 1000 + 3_500_000


def test_slots_outlive_the_state_of_their_limit(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 3, "10/s")
    hand.claim()
    for name in shard.names("rate:*"):
        shard.redis("DEL", name)
    handed = drain(hand, 5, until=2)
    assert [id for _, id in handed] == sent[1:]
    assert handed[1][0] - handed[0][0] >= 0.09


def test_a_limit_that_nobody_uses_is_forgotten(shard: Shard, hand: Hand) -> None:
    send(shard, 1, "100/s")
    hand.claim()
    [name] = shard.names("rate:*")
    assert 50_000 < shard.redis("PTTL", name) <= 61_000


def test_a_queue_has_a_rate_for_all_its_tasks(shard: Shard) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"mail": QueueOptions(rate_limit=parse_rate("1/h"))}))
    sent, other = shard.seed_waiting(3, queue="mail"), shard.seed_waiting(2)
    assert set(ids(hand)) == {sent[0], *other}
    assert shard.states(sent) == ["running", "scheduled", "scheduled"]


def test_a_task_and_its_queue_may_both_have_a_rate(shard: Shard) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"default": QueueOptions(rate_limit=parse_rate("50/s"))}))
    limited = send(shard, 8, "20/s")
    plain = shard.seed_waiting(12)
    handed = drain(hand, 5, until=20)
    assert {id for _, id in handed} == {*limited, *plain}
    moments = sorted(moment for moment, _ in handed)
    assert min(b - a for a, b in itertools.pairwise(moments)) > 0.013
    own = sorted(moment for moment, id in handed if id in limited)
    assert min(b - a for a, b in itertools.pairwise(own)) > 0.043


def test_a_rate_and_places_go_together(shard: Shard, hand: Hand) -> None:
    gates = (concurrency_gate("task:t", 1), rate_gate("task:t", parse_rate("100/s"), 1))
    sent = shard.send([Submission(gated(*gates), "default") for _ in range(5)])
    handed: list[bytes] = []
    deadline = time.monotonic() + 5
    while len(handed) < 5 and time.monotonic() < deadline:
        claimed = hand.claim()
        assert len(claimed) <= 1
        handed += map(id_of, claimed)
        hand.settle_all(claimed)
    assert sorted(handed) == sorted(sent)
    assert all(abs(handed.index(id) - place) <= 1 for place, id in enumerate(sent))  # a late start moves the plan


def test_a_paused_task_that_is_resumed_keeps_the_distance(shard: Shard, hand: Hand) -> None:
    gates = Gates(shard.broker.connections, shard.keys)
    sent = send(shard, 6, "20/s")
    hand.claim()
    gates.pause("t")
    time.sleep(0.3)
    assert ids(hand) == []
    gates.resume("t")
    handed = drain(hand, 5, until=5)
    assert [id for _, id in handed] == sent[1:]
    assert min(b[0] - a[0] for a, b in itertools.pairwise(handed)) > 0.043


def test_scheduled_ones_can_be_cancelled(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 2, "1/h")
    hand.claim()
    assert shard.broker.cancel(sent[1:]) == [True]


# --- refuse -----------------------------------------------------------------------------------------------------------


def refusing(shard: Shard, count: int = 1, rate: str = "3/h", burst: int = 3, **values: Any) -> list[bytes]:
    gate = rate_gate("task:t", parse_rate(rate), burst, refuse=True)
    return shard.send([Submission(gated(gate, **values), "default") for _ in range(count)])


def test_a_producer_is_refused_and_told_for_how_long(shard: Shard, hand: Hand) -> None:
    sent = refusing(shard) + refusing(shard, 2)
    with pytest.raises(RateLimited, match=r"t: its rate_limit refuses") as refusal:
        refusing(shard)
    assert 1_190 < refusal.value.seconds <= 1_200
    assert refusal.value.task == "t"
    assert ids(hand) == sent


def test_a_batch_is_refused_whole(shard: Shard) -> None:
    with pytest.raises(RateLimited):
        refusing(shard, 4)
    assert shard.names() == []
    assert len(refusing(shard, 3)) == 3


def test_what_was_sent_is_not_refused_when_it_is_sent_again(shard: Shard) -> None:
    [id] = refusing(shard, rate="1/h", burst=1)
    assert refusing(shard, rate="1/h", burst=1, id=id) == [id]


def test_an_idempotency_key_that_is_taken_takes_no_part_of_the_rate(shard: Shard) -> None:
    [first] = refusing(shard, idempotency_key="k")
    assert refusing(shard, 5, idempotency_key="k") == [first] * 5
    assert len(refusing(shard, 2)) == 2


def test_a_full_queue_takes_no_part_of_the_rate(shard: Shard) -> None:
    shard.broker.overflow = type(shard.broker.overflow)(shard.keys, {"default": QueueOptions(max_length=1)})
    gate = rate_gate("task:t", parse_rate("3/h"), 3, refuse=True)
    shard.send([Submission(message(), "default")])
    with pytest.raises(Exception, match="max_length"):
        shard.send([Submission(gated(gate), "default")])
    assert shard.names("rate:*") == []


def test_messages_say_what_they_waited_for(shard: Shard, hand: Hand) -> None:
    sent = send(shard, 2, "100/s")
    hand.claim()
    time.sleep(0.012)
    [delivery] = hand.claim()
    assert id_of(delivery) == sent[1]
    decoded = Message.decode(delivery.fields)
    assert decoded.enqueued is not None
    assert decoded.gates


def test_three_workers_at_once_never_exceed_the_limit(shard: Shard) -> None:
    sent, handed = send(shard, 300, "100/s"), []
    hands = [Hand(shard, f"w{number}") for number in range(3)]
    threads = [threading.Thread(target=lambda hand=hand: handed.extend(drain(hand, 3.3, 0.001))) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments = sorted(moment for moment, _ in handed)
    assert len({id for _, id in handed}) == len(handed)
    assert {id for _, id in handed} <= set(sent)
    assert most_in_a_window(moments, 1.0) <= 100
    assert most_in_a_window(moments, 0.5) <= 51
    assert len(moments) >= 150  # half of it, however busy the machine is
