"""bury: runs that end in the dead letters, each only if this worker still holds its delivery."""

from __future__ import annotations

from collections.abc import Callable

from django_taskq.broker import Submission
from django_taskq.broker.delivery import DUPLICATE, LOST, UNCONFIRMED
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from tests.broker.helpers import SETTLED, Hand, Shard, message

Hire = Callable[..., Hand]


def test_a_buried_run_has_failed_and_left_its_lane(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    assert hand.bury(hand.claim()[0], "timeout") is SETTLED
    found = shard.find(id)
    assert found.state == State.FAILED
    assert found.outcome is not None
    assert found.outcome.reason == "timeout"
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_failures_are_counted_in_all_and_by_reason(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(3)
    reasons = ["failed", "timeout", "failed"]
    hand.settle([hand.burying(*pair) for pair in zip(hand.claim(), reasons, strict=True)])
    assert shard.totals() == {"default:failed": 3, "default:dead:failed": 2, "default:dead:timeout": 1}


def test_the_end_is_announced(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    with shard.broker.listen(id) as listener:
        hand.bury(hand.claim()[0])
        assert listener.wait(5)


def test_five_hundred_in_one_call(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(500)
    settlements = [hand.burying(delivery) for delivery in hand.claim()]
    assert len(hand.deliveries.settle_calls(settlements)) == 1
    assert hand.settle(settlements) == [SETTLED] * 500
    assert shard.ended() == [(id, "failed") for id in ids]


def test_a_second_sending_is_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.bury(delivery)
    before = shard.contents()
    assert hand.settle([hand.burying(delivery), hand.burying(delivery, "timeout")]) == [LOST, LOST]
    assert hand.complete(delivery) == LOST
    assert shard.contents() == before


def test_the_same_delivery_twice_in_a_batch_counts_once(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    assert hand.settle([hand.burying(delivery), hand.burying(delivery, "timeout")]) == [SETTLED, LOST]
    assert shard.totals() == {"default:failed": 1, "default:dead:failed": 1}


def test_what_another_worker_holds_is_refused(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    assert hire("w2").bury(delivery) == LOST
    hand.release(delivery)
    assert hand.bury(delivery) == LOST
    assert shard.find(id).state == State.QUEUED
    assert (shard.outcomes(), shard.totals()) == ([], {})


def test_a_lane_or_group_that_is_gone_makes_it_lost(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XGROUP", "DESTROY", delivery.lane.name, "workers")
    assert hand.bury(delivery) == LOST
    shard.redis("DEL", delivery.lane.name)
    assert hand.bury(delivery) == LOST
    assert (shard.outcomes(), shard.totals()) == ([], {})


def test_a_broken_entry_is_buried_under_an_id_of_its_own(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.seed_bare("garbage", b"\xff\x00")
    derived = new_id()
    assert hand.bury(hand.claim()[1], "malformed", id=derived) is SETTLED
    assert shard.find(derived).state == State.FAILED
    assert len(shard.lane()) == 1


def test_a_broken_entry_is_buried_under_the_id_it_carries_only_if_the_index_knows_it(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    shard.seed_bare("i", id, "garbage", b"\xff")
    stranger = new_id()
    shard.seed_bare("i", stranger, "garbage", b"\xff")
    own, others, unknown = hand.claim()
    assert hand.bury(others, "malformed", id=id) == UNCONFIRMED
    assert hand.bury(unknown, "malformed", id=stranger) == UNCONFIRMED
    assert (shard.ended(), len(shard.lane())) == ([], 3)
    assert hand.bury(own, "malformed", id=id) is SETTLED
    assert shard.ended() == [(id, "failed")]


def test_a_known_id_sent_again_by_another_producer_fails_once(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    shard.seed_bare("i", id, "t", "t")
    first, second = hand.claim()
    assert hand.settle([hand.burying(first), hand.burying(second)]) == [SETTLED, DUPLICATE]
    assert shard.ended() == [(id, "failed")]
    assert shard.totals() == {"default:failed": 1, "default:dead:failed": 1}
    assert shard.names("queue:*") == []


def test_the_idempotency_key_is_free_again(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(idempotency_key="k")
    hand.bury(hand.claim()[0], key="k")
    [accepted] = shard.broker.enqueue([Submission(message(idempotency_key="k"), "default")])
    assert accepted.created


def test_a_key_that_belongs_to_another_task_by_now_is_left_alone(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(idempotency_key="k")
    shard.redis("DEL", shard.keys.idempotency("t", "k"))
    [other] = shard.seed_scheduled(idempotency_key="k")
    hand.bury(hand.claim()[0], key="k")
    assert shard.owner("k") == other


def test_the_end_answers_a_request_to_cancel(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    assert shard.broker.cancel([id]) == [False]
    assert hand.bury(delivery) is SETTLED
    assert shard.names("cancels") == []


def test_a_full_redis_takes_dead_letters(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(100, idempotency_key="")
    deliveries = hand.claim()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert hand.settle([hand.burying(delivery, raw=b"x" * 5000) for delivery in deliveries]) == [SETTLED] * 100
    assert len(shard.ended()) == 100
    shard.empty_memory()
