"""retry: failed attempts go back to the schedule with their new message, each only if this worker still holds it."""

from __future__ import annotations

from collections.abc import Callable

from django_taskq.broker.delivery import CANCEL_REQUESTED, DUPLICATE, LOST
from django_taskq.core.ids import new_id
from django_taskq.core.message import Attempt
from django_taskq.core.states import State
from tests.broker.helpers import SETTLED, Hand, Shard, id_of

Hire = Callable[..., Hand]


def test_the_next_attempt_waits_in_the_schedule_with_what_it_must_remember(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(priority=4, args=b"[1]")
    [delivery] = hand.claim()
    history = [Attempt(1, 1.0, 2.0, "w1", "retry", "ValueError", "no \x00 \udcff".encode("utf-8", "replace").decode())]
    before = int(shard.broker.time() * 1000)
    assert hand.retry(delivery, 1.5, enqueued=5, first_started=6, worker_ids=["w1"], history=history) is SETTLED
    found = shard.find(id)
    assert (found.state, found.queue) == (State.SCHEDULED, "default")
    assert found.due is not None
    assert before + 1500 <= found.due <= before + 2500
    again = found.message
    assert again is not None
    assert (again.attempt, again.enqueued, again.first_started, again.history) == (1, 5, 6, history)
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())
    assert shard.due() == {b"default": found.due}
    assert shard.totals() == {"default:retried": 1}


def test_it_comes_back_in_its_lane_and_can_be_settled(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting(queue="mail", priority=-3)
    assert hand.retry(hand.claim()[0]) is SETTLED
    shard.pass_time()
    other = hire("w2")
    [again] = other.claim()
    assert (again.lane.suffix, again.losses, id_of(again)) == (b"mail:-3", 0, id)
    assert other.complete(again) is SETTLED
    assert shard.ended() == [(id, "succeeded")]


def test_at_once_means_at_the_next_claim(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    assert hand.retry(hand.claim()[0], 0.0) is SETTLED
    assert [id_of(delivery) for delivery in hand.claim()] == [id]


def test_losses_of_the_delivery_start_anew(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    hand.die(hand.claim())
    other = hire("w2")
    [delivery] = other.claim()
    assert delivery.losses == 1
    other.retry(delivery, 0.0, losses=1)
    [again] = other.claim()
    assert (again.losses, dict(zip(again.fields[::2], again.fields[1::2], strict=True))[b"l"]) == (0, b"1")


def test_five_hundred_in_one_call(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(500, headers={"a": "b"}, worker_ids=["w0"])
    settlements = [hand.retrying(delivery) for delivery in hand.claim()]
    assert len(hand.deliveries.settle_calls(settlements)) == 1
    assert hand.settle(settlements) == [SETTLED] * 500
    assert set(shard.scheduled()) == set(ids)
    assert shard.totals() == {"default:retried": 500}


def test_a_second_sending_is_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.retry(delivery, 60)
    before = shard.contents()
    assert hand.settle([hand.retrying(delivery, 1), hand.retrying(delivery, 2)]) == [LOST, LOST]
    assert shard.contents() == before


def test_a_second_sending_after_the_task_came_back_is_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.retry(delivery, 0.0)
    [again] = hand.claim()
    before = shard.contents()
    assert hand.retry(delivery, 1) == LOST
    assert shard.contents() == before
    assert hand.complete(again) is SETTLED


def test_the_same_delivery_twice_in_a_batch_counts_once(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    assert hand.settle([hand.retrying(delivery, 60), hand.retrying(delivery, 3600)]) == [SETTLED, LOST]
    due = shard.find(id).due
    assert due is not None
    assert due / 1000 - shard.broker.time() <= 60
    assert shard.totals() == {"default:retried": 1}


def test_what_another_worker_holds_is_refused(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    before = shard.contents()
    assert hire("w2", registered=False).retry(delivery) == LOST
    assert shard.contents() == before
    hand.release(delivery)
    assert hand.retry(delivery) == LOST
    assert shard.names("scheduled*") == []


def test_a_lane_or_group_that_is_gone_makes_it_lost(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XGROUP", "DESTROY", delivery.lane.name, "workers")
    assert hand.retry(delivery) == LOST
    shard.redis("DEL", delivery.lane.name)
    assert hand.retry(delivery) == LOST
    assert shard.names("scheduled*") == []


def test_an_entry_without_an_index_is_known_from_then_on(shard: Shard, hand: Hand) -> None:
    id = new_id()
    shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    assert hand.retry(hand.claim()[1]) is SETTLED
    assert shard.find(id).state == State.SCHEDULED


def test_a_known_id_sent_again_by_another_producer_is_not_scheduled_twice(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    first, second = hand.claim()
    assert hand.settle([hand.retrying(first), hand.retrying(second, 7200)]) == [SETTLED, DUPLICATE]
    assert list(shard.scheduled()) == [id]
    assert shard.names("queue:*") == []


def test_a_request_to_cancel_refuses_the_next_attempt(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(2)
    deliveries = hand.claim()
    assert shard.broker.cancel(ids[:1]) == [False]
    assert hand.settle([hand.retrying(delivery) for delivery in deliveries]) == [CANCEL_REQUESTED, SETTLED]
    assert shard.states(ids) == ["running", "scheduled"]
    assert hand.complete(deliveries[0], "cancelled") is SETTLED
    assert shard.names("cancels") == []


def test_the_idempotency_key_stays_with_the_task(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(idempotency_key="k")
    hand.retry(hand.claim()[0])
    assert (shard.owner("k"), shard.key_ttl("k")) == (id, -1)


def test_one_sleeper_is_woken_when_it_is_due_before_the_others(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    deliveries = hand.claim()
    hire("w2").sleep()
    hire("w3").sleep()
    hand.retry(deliveries[0], 60)
    assert shard.tokens() == 1
    assert shard.take_token()
    hand.retry(deliveries[1], 120)
    assert shard.tokens() == 0


def test_a_full_redis_schedules_the_next_attempt(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(100)
    deliveries = hand.claim()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert hand.settle([hand.retrying(delivery) for delivery in deliveries]) == [SETTLED] * 100
    shard.empty_memory()
    assert set(shard.scheduled()) == set(ids)
