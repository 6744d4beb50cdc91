"""complete: runs that ended without a dead letter, each only if this worker still holds its delivery."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.connection import run_script
from django_taskq.broker.delivery import DUPLICATE, LOST, Delivery, Settlement, refusals
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from tests.broker.helpers import HOUR, SETTLED, Hand, Shard, message

Hire = Callable[..., Hand]
ENDS = ["succeeded", "cancelled", "expired", "discarded"]


@pytest.mark.parametrize("status", ENDS)
def test_a_run_ends_in_the_outcome_stream_and_leaves_its_lane(shard: Shard, hand: Hand, status: str) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    assert hand.complete(delivery, status) is SETTLED
    assert shard.ended() == [(id, status)]
    found = shard.find(id)
    assert (found.state, found.outcome) == (status, shard.outcomes()[0])
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())
    assert shard.totals() == {f"default:{status}": 1}


def test_the_neighbours_in_the_lane_stay(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(3)
    hand.settle_all(hand.claim(2)[1:])
    assert shard.states(ids) == ["running", "succeeded", "queued"]
    assert len(shard.lane()) == 2
    assert list(shard.pending().values()) == [(b"w1", 1)]


def test_the_end_is_announced_once(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    with shard.broker.listen(id) as listener:
        assert not listener.wait(0.01)
        hand.complete(delivery)
        assert listener.wait(5)
        hand.complete(delivery)
        assert not listener.wait(0.01)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_five_hundred_in_one_call(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(500)
    settlements = [hand.completing(delivery) for delivery in hand.claim()]
    assert len(hand.deliveries.settle_calls(settlements)) == 1
    assert hand.settle(settlements) == [SETTLED] * 500
    assert shard.ended() == [(id, "succeeded") for id in ids]
    assert shard.totals() == {"default:succeeded": 500}


def test_different_ends_in_one_batch(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(4)
    assert hand.settle([hand.completing(*pair) for pair in zip(hand.claim(), ENDS, strict=True)]) == [SETTLED] * 4
    assert shard.ended() == list(zip(ids, ENDS, strict=True))
    assert shard.totals() == {f"default:{status}": 1 for status in ENDS}


def test_an_empty_batch_is_no_call(hand: Hand) -> None:
    assert hand.deliveries.settle_calls([]) == []


def test_a_batch_is_bounded_in_messages_and_bytes(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(500)
    shard.seed_waiting(3, priority=1)
    deliveries = hand.claim() + hand.claim()
    large = [hand.completing(delivery, result=b" " * 600_000) for delivery in deliveries[:3]]
    assert [len(batch) for _, batch in hand.deliveries.settle_calls(large)] == [1, 1, 1]
    small = [hand.completing(delivery) for delivery in deliveries] + [hand.completing(deliveries[-1])]
    assert sorted(len(batch) for _, batch in hand.deliveries.settle_calls(small)) == [1, 3, 500]


def test_what_is_lost_does_not_stop_the_rest_of_the_batch(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(3)
    deliveries = hand.claim()
    hand.release(deliveries[1])
    hire("w2").claim()
    assert hand.settle([hand.completing(delivery) for delivery in deliveries]) == [SETTLED, LOST, SETTLED]
    assert shard.states(ids) == ["succeeded", "running", "succeeded"]


# --- the fence --------------------------------------------------------------------------------------------------------


def refuses(shard: Shard, hand: Hand, settlement: object, code: int = LOST) -> None:
    """That the settlement is refused and nothing changes."""
    before = shard.contents()
    assert hand.settle([settlement]) == [code]  # type: ignore[list-item]
    assert shard.contents() == before


def test_a_second_sending_is_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(2)
    [delivery, _] = hand.claim()
    hand.complete(delivery)
    refuses(shard, hand, hand.completing(delivery))
    refuses(shard, hand, hand.completing(delivery, "discarded"))


def test_the_same_delivery_twice_in_a_batch_counts_once(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    assert hand.settle([hand.completing(delivery), hand.completing(delivery, "expired")]) == [SETTLED, LOST]
    assert [outcome.status for outcome in shard.outcomes()] == ["succeeded"]


def test_another_workers_delivery_is_refused(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    other = hire("w2")
    refuses(shard, other, other.completing(delivery))
    assert hand.complete(delivery) is SETTLED


def test_a_released_delivery_is_refused_until_it_is_claimed_again(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.release(delivery)
    refuses(shard, hand, hand.completing(delivery))
    [again] = hand.claim()
    assert hand.complete(again) is SETTLED


def test_an_entry_that_nobody_claimed_is_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XACK", delivery.lane.name, "workers", delivery.entry)
    refuses(shard, hand, hand.completing(delivery))


def test_an_expelled_worker_settles_what_has_not_been_taken_from_it(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(2)
    first, second = hand.claim()
    shard.workers.declare_dead("w1", None, [])
    assert hand.complete(first) is SETTLED
    shard.workers.reclaim("w1")
    refuses(shard, hand, hand.completing(second))


# --- what others did to Redis -----------------------------------------------------------------------------------------


def test_a_deleted_lane_makes_it_lost(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("DEL", delivery.lane.name)
    refuses(shard, hand, hand.completing(delivery))


def test_a_destroyed_group_makes_it_lost_and_somebody_else_settles(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XGROUP", "DESTROY", delivery.lane.name, "workers")
    refuses(shard, hand, hand.completing(delivery))
    [again] = hire("w2").claim()
    refuses(shard, hand, hand.completing(delivery))
    hire("w2").settle_all([again])
    assert shard.ended() == [(id, "succeeded")]


def test_a_deleted_entry_is_settled_while_it_is_pending(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XDEL", delivery.lane.name, delivery.entry)
    assert hand.complete(delivery) is SETTLED
    assert shard.ended() == [(id, "succeeded")]
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_without_its_index_a_task_is_settled_once(shard: Shard, hand: Hand) -> None:
    again = Submission(message(), "default")
    shard.send([again])
    shard.redis("DEL", shard.keys.index)
    shard.send([again])
    first, second = hand.claim()
    assert hand.settle([hand.completing(second), hand.completing(first)]) == [SETTLED, DUPLICATE]
    assert shard.ended() == [(again.message.id, "succeeded")]
    assert shard.find(again.message.id).state == State.SUCCEEDED


def test_after_everything_was_deleted_nothing_is_settled(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("FLUSHALL")
    assert hand.complete(delivery) == LOST
    assert shard.names() == []


# --- entries by a bare XADD -------------------------------------------------------------------------------------------


def test_an_entry_without_an_index_is_settled_and_known_from_then_on(shard: Shard, hand: Hand) -> None:
    id = new_id()
    shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    assert hand.complete(hand.claim()[1]) is SETTLED
    assert shard.find(id).state == State.SUCCEEDED


def test_a_known_id_sent_again_by_another_producer_ends_once(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    first, second = hand.claim()
    assert hand.complete(second) == DUPLICATE
    assert len(shard.lane()) == 1
    assert hand.complete(first) is SETTLED
    assert shard.ended() == [(id, "succeeded")]
    assert shard.names("queue:*") == []


@pytest.mark.parametrize("end", ["complete", "bury", "retry"])
def test_a_duplicate_does_not_disturb_a_task_that_has_moved_on(shard: Shard, hand: Hand, end: str) -> None:
    [id] = shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    first, second = hand.claim()
    assert getattr(hand, end)(first) is SETTLED
    state = shard.find(id).state
    assert hand.settle([hand.completing(second), hand.burying(second), hand.retrying(second)]) == [
        DUPLICATE,
        LOST,
        LOST,
    ]
    assert shard.find(id).state == state
    assert shard.names("queue:*") == []


def test_an_entry_id_that_came_back_with_another_task_is_not_settled_by_the_old_delivery(
    shard: Shard, hand: Hand
) -> None:
    shard.seed_waiting()
    [old] = hand.claim()
    hand.complete(old)
    other = new_id()
    shard.redis("XADD", old.lane.name, old.entry, "i", other, "t", "t")
    shard.redis("HSET", shard.keys.index, other, old.location)
    shard.redis("ZADD", shard.keys.queue("default").lanes, 0, old.lane.name)
    shard.redis("SADD", shard.keys.ready, "default")
    [new] = hand.claim()
    assert new.location == old.location
    refuses(shard, hand, hand.completing(old))
    assert hand.complete(new) is SETTLED


# --- idempotency keys -------------------------------------------------------------------------------------------------


def test_success_keeps_the_key_for_its_time(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(idempotency_key="k")
    assert hand.complete(hand.claim()[0], key="k", ttl=60_000) is SETTLED
    assert shard.owner("k") == id
    assert 0 < shard.key_ttl("k") <= 60_000
    [accepted] = shard.broker.enqueue([Submission(message(idempotency_key="k"), "default")])
    assert (accepted.id, accepted.created) == (id, False)
    assert 0 < shard.key_ttl("k") <= 60_000


def test_success_without_a_time_frees_the_key(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(idempotency_key="k")
    hand.complete(hand.claim()[0], key="k", ttl=0)
    assert shard.owner("k") is None


@pytest.mark.parametrize("status", ["cancelled", "expired", "discarded"])
def test_other_ends_free_the_key(shard: Shard, hand: Hand, status: str) -> None:
    shard.seed_waiting(idempotency_key="k")
    hand.complete(hand.claim()[0], status, key="k")
    [accepted] = shard.broker.enqueue([Submission(message(idempotency_key="k"), "default")])
    assert accepted.created


@pytest.mark.parametrize(("status", "ttl"), [("succeeded", 60_000), ("discarded", 0)])
def test_a_key_that_belongs_to_another_task_by_now_is_left_alone(
    shard: Shard, hand: Hand, status: str, ttl: int
) -> None:
    shard.seed_waiting(idempotency_key="k")
    shard.redis("DEL", shard.keys.idempotency("t", "k"))
    [other] = shard.seed_scheduled(idempotency_key="k")
    hand.complete(hand.claim()[0], status, key="k", ttl=ttl)
    assert (shard.owner("k"), shard.key_ttl("k")) == (other, -1)


def test_a_refused_settlement_does_not_touch_the_key(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(idempotency_key="k")
    [delivery] = hand.claim()
    assert hire("w2").complete(delivery, key="k", ttl=5) == LOST
    assert shard.key_ttl("k") == -1


# --- cancel requests, full memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["succeeded", "cancelled"])
def test_the_end_answers_a_request_to_cancel(shard: Shard, hand: Hand, status: str) -> None:
    ids = shard.seed_waiting(2)
    deliveries = hand.claim()
    assert shard.broker.cancel(ids) == [False, False]
    assert hand.complete(deliveries[0], status) is SETTLED
    assert shard.hash(shard.keys.cancels) == {ids[1]: b""}


def test_a_full_redis_takes_outcomes(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(500, idempotency_key="")
    [keyed] = shard.seed_waiting(idempotency_key="k", priority=1)
    deliveries = hand.claim() + hand.claim()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    settlements = [hand.completing(deliveries[0], key="k", ttl=HOUR)]
    settlements += [hand.completing(delivery) for delivery in deliveries[1:]]
    assert hand.settle(settlements) == [SETTLED] * 501
    assert [id for id, _ in shard.ended()] == [keyed, *ids]
    shard.empty_memory()


# --- large calls, which look ahead ------------------------------------------------------------------------------------


def strange_deliveries(shard: Shard, hand: Hand, hire: Hire) -> tuple[list[Settlement], list[int | None]]:
    """One of each kind of delivery that may stand in a call, and what is to become of them."""
    shard.seed_waiting(3)
    mine, lost, once = hand.claim(3)
    hand.release(lost)
    [taken] = hire("w2").claim(1)
    assert taken.entry == lost.entry
    again = new_id()
    shard.seed_bare("i", again, "t", "t")
    shard.seed_bare("i", again, "t", "t")
    first, second = hand.claim(2)
    [known] = shard.seed_waiting()
    shard.seed_bare("i", known, "t", "t")
    real, foreign = hand.claim(2)
    settled: list[tuple[Delivery, int | None]] = [
        (mine, SETTLED), (lost, LOST), (once, SETTLED), (once, LOST), (first, SETTLED), (second, DUPLICATE),
        (foreign, DUPLICATE), (real, SETTLED),
    ]  # fmt: skip
    return [hand.completing(delivery) for delivery, _ in settled], [code for _, code in settled]


@pytest.mark.parametrize("others", [0, 1, 5, 100], ids=["few", "just as many", "more", "many"])
def test_a_large_call_decides_as_a_small_one_does(shard: Shard, hand: Hand, hire: Hire, others: int) -> None:
    settlements, expected = strange_deliveries(shard, hand, hire)
    shard.seed_waiting(others)
    filler = [hand.completing(delivery) for delivery in hand.claim(others or 1)] if others else []
    if not others:
        settlements, expected = settlements[:7], expected[:7]
    [(call, batch)] = hand.deliveries.settle_calls([*settlements, *filler])
    reply = run_script(hand.connection, *call)
    codes = refusals(batch[0], reply)
    assert [codes.get(position) for position in range(len(batch))] == [*expected, *[None] * others]
    outcomes = shard.outcomes()
    assert len({outcome.id for outcome in outcomes}) == len(outcomes) == expected.count(None) + others
    assert shard.totals()["default:succeeded"] == len(outcomes)
    assert [shard.location(outcome.id)[:1] for outcome in outcomes] == [b"o"] * len(outcomes)


def test_what_is_held_beyond_the_look_ahead_is_settled_all_the_same(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(300)
    held = hand.claim(300)
    assert hand.settle([hand.completing(delivery) for delivery in held[-10:]]) == [SETTLED] * 10
    assert shard.totals() == {"default:succeeded": 10}
