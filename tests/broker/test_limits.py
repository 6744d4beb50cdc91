"""Concurrency limits: never more at once than there are places, nobody forgotten, in order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from django_taskq.broker import Submission, scripts
from django_taskq.broker.gates import Gates
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.requeue import requeue_messages
from django_taskq.core.gates import Gate, breaker_gate, concurrency_gate, pack_queue_gates, rate_gate
from django_taskq.core.message import Message
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import parse_rate
from tests.broker.helpers import HOUR, Hand, Shard, id_of, message

LIMIT = "task:t:a"


def gated(*gates: Gate, **values: Any) -> Message:
    return message(gates=msgspec.msgpack.encode(gates), **values)


def send(
    shard: Shard, count: int = 1, most: int = 1, limit: str = LIMIT, conflict: str = "wait", queue: str = "default",
    **values: Any,
) -> list[bytes]:  # fmt: skip
    gate = concurrency_gate(limit, most, conflict)
    return [shard.send([Submission(gated(gate, **values), queue)])[0] for _ in range(count)]


def holders(shard: Shard, limit: str = LIMIT) -> set[bytes]:
    return set(shard.hash(shard.keys.limit(limit)))


def nothing_is_held(shard: Shard) -> bool:
    return not [name for name in shard.names() if any(word in name for word in ("limit", "waiting", "holds", "parked"))]


def sweep(shard: Shard) -> tuple[int, int]:
    return Gates(shard.broker.connections, shard.keys).sweep(["default", "mail"])


def test_no_more_run_at_once_than_there_are_places(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 5, most=2)
    first = hand.claim()
    assert [id_of(each) for each in first] == ids[:2]
    assert shard.states(ids) == ["running", "running", "blocked", "blocked", "blocked"]
    assert hand.claim() == []
    assert holders(shard) == set(ids[:2])


@pytest.mark.parametrize("verb", ["complete", "bury", "retry"])
def test_whatever_ends_a_delivery_lets_the_next_one_go(shard: Shard, hand: Hand, verb: str) -> None:
    ids = send(shard, 3)
    for number in range(3):
        [delivery] = hand.claim()
        assert id_of(delivery) == ids[number]
        assert getattr(hand, verb)(delivery) is None
    assert hand.claim() == []
    assert nothing_is_held(shard)


def test_the_order_of_those_who_wait_is_that_of_arrival(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 60, most=3)
    ended: list[bytes] = []
    while deliveries := hand.claim():
        assert len(deliveries) <= 3
        ended += map(id_of, deliveries)
        late = send(shard) if len(ended) == 6 else []  # has to wait behind those who wait
        ids += late
        hand.settle_all(deliveries)
    assert ended == ids


def test_a_place_is_kept_for_whoever_waited_longest(shard: Shard, hand: Hand) -> None:
    [first, waiting] = send(shard, 2)
    [delivery] = hand.claim()
    hand.claim()
    [newcomer] = send(shard, priority=50)
    hand.complete(delivery)
    assert holders(shard) == {waiting}
    assert [id_of(each) for each in hand.claim()] == [waiting]
    assert shard.states([first, waiting, newcomer]) == ["succeeded", "running", "blocked"]


def open_breaker(shard: Shard) -> None:
    assert Gates(shard.broker.connections, shard.keys).ask_breaker("failure", "crm", "", 1, 60_000, HOUR) == 0


@pytest.mark.parametrize("gate", [rate_gate("task:r", parse_rate("1/h"), 1), breaker_gate("crm", HOUR)])
def test_what_waits_for_its_time_takes_no_place_from_others(shard: Shard, gate: Gate) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"default": QueueOptions(max_concurrency=2)}))
    shard.seed_waiting(2)
    running = hand.claim()
    late = shard.send([Submission(gated(gate), "default") for _ in range(5)])
    others = shard.seed_waiting(3)
    assert hand.claim() == []  # all of them are parked
    open_breaker(shard)
    hand.settle_all(running)
    ended: list[bytes] = []
    for _ in range(12):  # some only move what is parked
        deliveries = hand.claim()
        ended += map(id_of, deliveries)
        hand.settle_all(deliveries)
    assert [id for id in ended if id not in late] == others
    assert set(shard.states(late)) <= {"succeeded", "scheduled"}
    assert nothing_is_held(shard)


def test_keys_do_not_wait_for_each_other(shard: Shard, hand: Hand) -> None:
    a, b = send(shard, 2, limit="task:t:a"), send(shard, 2, limit="task:t:b")
    assert [id_of(each) for each in hand.claim()] == [a[0], b[0]]


def test_other_tasks_pass_those_who_wait(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 700)
    [plain] = shard.seed_waiting()
    claimed: list[bytes] = []
    for _ in range(3):
        claimed += map(id_of, hand.claim())
    assert claimed == [ids[0], plain]
    assert shard.states(ids[1:]) == ["blocked"] * 699
    assert Inspector(shard.broker).queues(["default"])[0].blocked == 699


def test_one_claim_looks_at_five_hundred_and_says_that_there_is_more(shard: Shard, hand: Hand) -> None:
    send(shard, most=1)
    hand.claim()
    send(shard, 501)
    claim = hand.ask(lease_ms=5000)
    assert not claim.deliveries
    assert claim.next_due is not None
    assert claim.next_due <= claim.time
    assert len(shard.lane(share="g")) == 2  # and what runs


def test_a_place_stays_with_a_message_that_goes_back(shard: Shard, hand: Hand) -> None:
    [first, second] = send(shard, 2)
    [delivery] = hand.claim()
    hand.release(delivery)
    other = Hand(shard, "w2")
    [delivery] = other.claim()
    assert (id_of(delivery), holders(shard)) == (first, {first})
    other.die([delivery])
    [delivery] = hand.claim()
    assert (id_of(delivery), delivery.losses) == (first, 1)
    hand.complete(delivery)
    assert [id_of(each) for each in hand.claim()] == [second]


def test_what_a_worker_lost_gives_no_place_back_twice(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 3)
    [delivery] = hand.claim()
    hand.claim()
    hand.die()
    other = Hand(shard, "w2")
    [again] = other.claim()
    assert hand.complete(delivery) == 0  # it is void
    assert holders(shard) == {ids[0]}
    assert other.complete(again) is None
    assert other.complete(again) == 0
    assert holders(shard) == {ids[1]}


def test_those_who_wait_can_be_cancelled(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 3)
    [delivery] = hand.claim()
    assert shard.find(ids[1]).state == "blocked"
    assert shard.broker.cancel([ids[1], ids[1]]) == [True, None]
    hand.complete(delivery)
    [delivery] = hand.claim()
    assert id_of(delivery) == ids[2]
    hand.complete(delivery)
    assert shard.ended() == [(ids[1], "cancelled"), (ids[0], "succeeded"), (ids[2], "succeeded")]
    assert nothing_is_held(shard)


def test_cancelling_what_was_let_through_and_came_back_frees_its_place(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 2)
    hand.release(*hand.claim())
    assert shard.broker.cancel([ids[0]]) == [True]
    [delivery] = hand.claim()
    assert id_of(delivery) == ids[1]


def test_a_queue_is_purged_with_those_who_wait(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 40)
    [delivery] = hand.claim()
    assert Inspector(shard.broker).purge("default") == 39
    hand.complete(delivery)
    assert len(shard.ended()) == len(ids)
    assert nothing_is_held(shard)


def test_a_known_id_that_waits_is_not_sent_again(shard: Shard, hand: Hand) -> None:
    [_, waiting] = send(shard, 2)
    hand.claim()
    gate = concurrency_gate(LIMIT, 1)
    shard.send([Submission(gated(gate, id=waiting), "default")])
    [answer] = requeue_messages(shard.broker, [(gated(gate, id=waiting, run=2), "default")])
    assert answer == "busy"
    assert len(shard.lane(share="g")) == 1


def test_a_message_keeps_all_it_says_while_it_waits(shard: Shard, hand: Hand) -> None:
    values = {"args": b"[1]", "expires": 9_999_999_999_999, "headers": {"a": "b"}}
    ids = send(shard, 2, **values)
    [delivery] = hand.claim()
    before = Message.decode(delivery.fields)
    hand.complete(delivery)
    [delivery] = hand.claim()
    after = Message.decode(delivery.fields)
    assert after.enqueued is not None
    assert abs(after.enqueued / 1000 - shard.broker.time()) < 60
    after.enqueued, after.id = None, before.id
    assert after == before
    assert id_of(delivery) == ids[1]


# --- on_conflict ------------------------------------------------------------------------------------------------------


def test_discard_ends_the_call_that_finds_no_place(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 3, conflict="discard")
    first, *others = hand.claim()
    assert [id_of(each) for each in (first, *others)] == ids
    assert first.instead == ""
    assert all("max_concurrency" in each.instead for each in others)
    hand.settle_all(others, "discarded")
    hand.complete(first)
    assert nothing_is_held(shard)
    send(shard, conflict="discard")
    assert hand.claim()[0].instead == ""


def test_a_retry_is_not_discarded_but_waits(shard: Shard, hand: Hand) -> None:
    [first] = send(shard, conflict="discard")
    hand.retry(hand.claim()[0], 60)
    send(shard, conflict="discard")
    [newer] = hand.claim()
    shard.pass_time()
    assert hand.claim() == []
    assert shard.find(first).state == "blocked"
    hand.complete(newer)
    assert [(id_of(each), each.instead) for each in hand.claim()] == [(first, "")]


def test_replace_leaves_only_the_newest_of_those_who_wait(shard: Shard, hand: Hand) -> None:
    [running] = send(shard, conflict="replace")
    [delivery] = hand.claim()
    older = send(shard, 3, conflict="replace")
    hand.claim()
    [newest] = send(shard, conflict="replace")
    replaced = [*hand.claim(), *hand.claim()]
    assert all("newer call" in each.instead for each in replaced)
    hand.settle_all(replaced, "discarded")
    assert shard.states([running, *older, newest]) == ["running", "discarded", "discarded", "discarded", "blocked"]
    hand.complete(delivery)
    assert [(id_of(each), each.instead) for each in hand.claim()] == [(newest, "")]


# --- limits of queues -------------------------------------------------------------------------------------------------


def limited(shard: Shard, most: int = 1, name: str = "w1") -> Hand:
    """A worker whose settings limit the queue `mail`."""
    return Hand(shard, name, gates=pack_queue_gates({"mail": QueueOptions(max_concurrency=most)}))


def test_a_queue_has_places_for_all_its_tasks_together(shard: Shard) -> None:
    hand = limited(shard, 2)
    ids, others = shard.seed_waiting(4, queue="mail"), shard.seed_waiting(3)
    claimed = hand.claim()
    assert [id_of(each) for each in claimed] == [*others, *ids[:2]]
    assert shard.states(ids) == ["running", "running", "blocked", "blocked"]
    hand.settle_all(claimed)
    assert [id_of(each) for each in hand.claim()] == ids[2:]


def test_a_task_with_a_limit_of_its_own_needs_both(shard: Shard) -> None:
    hand = limited(shard, 2)
    ids = send(shard, 3, queue="mail")
    plain = shard.seed_waiting(2, queue="mail")
    ended: list[bytes] = []
    while claimed := hand.claim():
        assert len(claimed) <= 2
        assert sum(id_of(each) in ids for each in claimed) <= 1
        ended += map(id_of, claimed)
        hand.settle_all(claimed)
    assert sorted(ended) == sorted(ids + plain)
    assert nothing_is_held(shard)


def test_a_limit_that_was_raised_counts_at_once(shard: Shard) -> None:
    ids = shard.seed_waiting(4, queue="mail")
    limited(shard, 1).claim()
    more = limited(shard, 3, "w2")
    shard.seed_waiting(1, queue="mail")
    assert [id_of(each) for each in [*more.claim(), *more.claim()]] == ids[1:3]


# --- memory, foreign producers, broken keys ---------------------------------------------------------------------------


def test_places_are_given_back_and_taken_while_memory_is_full(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 3)
    [delivery] = hand.claim()
    shard.fill_memory()
    try:
        hand.complete(delivery)
        assert [id_of(each) for each in hand.claim()] == [ids[1]]
    finally:
        shard.empty_memory()


@pytest.mark.parametrize("packed", [b"\xc1", b"x", msgspec.msgpack.encode("c"), msgspec.msgpack.encode({"c": 1})])
def test_gates_that_cannot_be_read_are_none(shard: Shard, hand: Hand, packed: bytes) -> None:
    [id] = shard.send([Submission(message(gates=packed), "default")])
    assert [id_of(each) for each in hand.claim()] == [id]


def test_an_entry_without_an_id_is_for_the_worker_to_bury(shard: Shard) -> None:
    shard.seed_bare("nonsense", "1", queue="mail")
    hand = limited(shard)
    assert len([*hand.claim(), *hand.claim()]) == 1


def test_a_bare_message_holds_a_place_too(shard: Shard) -> None:
    hand = limited(shard)
    shard.seed_waiting(1, queue="mail")
    shard.seed_bare(*message().fields(), queue="mail")
    [delivery] = hand.claim()
    hand.complete(delivery)
    [delivery] = hand.claim()
    assert sweep(shard) == (0, 0)
    assert len(holders(shard, "queue:mail")) == 1
    hand.complete(delivery)
    assert nothing_is_held(shard)


def test_a_sweep_changes_nothing_that_is_whole(shard: Shard, hand: Hand) -> None:
    send(shard, 4, most=2)
    released = hand.claim()[0]
    hand.release(released)
    before = shard.contents()
    assert sweep(shard) == (0, 0)
    assert shard.contents() == before


def test_a_place_of_a_task_that_is_nowhere_is_freed(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 2)
    hand.claim()
    shard.redis("DEL", shard.keys.lane("default", 0, "g"))
    assert sweep(shard) == (1, 1)
    assert [id_of(each) for each in hand.claim()] == ids[1:]


@pytest.mark.parametrize("lost", ["holds", "limits", "limit", "waiting"])
def test_who_waits_goes_on_whatever_key_was_deleted(shard: Shard, hand: Hand, lost: str) -> None:
    ids = send(shard, 3)
    [delivery] = hand.claim()
    keys = shard.keys
    names = {"holds": keys.holds, "limits": keys.limits, "limit": keys.limit(LIMIT), "waiting": keys.waiting(LIMIT)}
    shard.redis("DEL", names[lost])
    hand.complete(delivery)
    for _ in range(2):
        sweep(shard)
        [delivery] = hand.claim()
        hand.complete(delivery)
    sweep(shard)
    assert sorted(shard.ended()) == sorted((id, "succeeded") for id in ids)
    assert nothing_is_held(shard)


def test_a_schedule_comes_before_the_limit(shard: Shard, hand: Hand) -> None:
    gate = concurrency_gate(LIMIT, 1)
    [id] = shard.send([Submission(gated(gate), "default", delay=HOUR)])
    send(shard)
    hand.claim()
    shard.pass_time()
    hand.claim()
    assert shard.find(id).state == "blocked"


def test_a_settlement_that_was_sent_twice_lets_one_go(shard: Shard, hand: Hand) -> None:
    ids = send(shard, 4, most=2)
    first = hand.claim()
    hand.claim()
    [(call, _)] = hand.deliveries.settle_calls([hand.completing(first[0])])
    assert call[0] is scripts.COMPLETE
    assert [hand.run(*call), hand.run(*call)] == [[], [0, 0]]
    assert holders(shard) == set(ids[1:3])
