"""relay, relay_displace, relay_lease and withdraw: what leaves an outbox, under a lease, and what ends in it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from django_taskq.broker import Broker, Submission
from django_taskq.broker.outbox import LeaseLost, RelayLease, nudge, nudges, withdraw
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerFull, QueueFull
from django_taskq.queue_options import DROP_OLDEST, QueueOptions
from tests.broker.helpers import HOUR, Hand, Shard, message

LIMIT = 3


@pytest.fixture
def bounded(broker: Broker) -> Shard:
    """`mail` refuses the fourth task, `news` drops its oldest."""
    queues = {"mail": QueueOptions(LIMIT), "news": QueueOptions(LIMIT, overflow=DROP_OLDEST), "default": QueueOptions()}
    return Shard(Broker(broker.connections, broker.keys, queues))


def lease_of(shard: Shard, owner: str = "r1") -> RelayLease:
    return RelayLease(shard.broker, "default", owner)


def some(count: int = 1, queue: str = "default", **values: object) -> list[Submission]:
    return [Submission(message(**values), queue) for _ in range(count)]


def ids(submissions: list[Submission]) -> list[bytes]:
    return [submission.message.id for submission in submissions]


def change(shard: Shard, field: str, value: str) -> None:
    shard.redis("HSET", shard.keys.relay_prefix + "default", field, value)


# --- the lease --------------------------------------------------------------------------------------------------------


def test_one_relay_holds_the_lease_until_it_is_over(shard: Shard) -> None:
    first, second = lease_of(shard), lease_of(shard, "r2")
    assert (first.take(60), second.take()) == (True, False)
    assert first.take(60)
    time.sleep(0.07)
    assert (second.take(), first.take()) == (True, False)


def test_one_that_is_given_up_is_free_at_once(shard: Shard) -> None:
    first, second = lease_of(shard), lease_of(shard, "r2")
    first.take()
    first.give_up()
    assert second.take()


def test_each_database_has_its_own(shard: Shard) -> None:
    assert lease_of(shard).take()
    assert RelayLease(shard.broker, "billing", "r2").take()


def test_a_lease_from_before_the_clock_stepped_back_holds_nobody_up(shard: Shard) -> None:
    lease_of(shard).take()
    change(shard, "until", "99999999999999")
    assert lease_of(shard, "r2").take()


def test_a_full_memory_takes_no_lease_away(shard: Shard) -> None:
    shard.seed_waiting()
    shard.fill_memory()
    taken = lease_of(shard).take()
    shard.empty_memory()
    assert taken


# --- sending under it -------------------------------------------------------------------------------------------------


def test_messages_go_to_their_lane_in_order_once(shard: Shard, hand: Hand) -> None:
    lease, submissions = lease_of(shard), some(3)
    lease.take()
    for _ in range(2):
        assert [accepted.id for accepted in lease.send(submissions)] == ids(submissions)
    assert [fields[b"i"] for _, fields in shard.lane()] == ids(submissions)
    hand.settle_all(hand.claim())
    lease.send(submissions)
    assert shard.lane() == []


def test_spans_and_shares_are_as_for_producers(shard: Shard) -> None:
    lease = lease_of(shard)
    lease.take()
    later, shared = Submission(message(), "mail", delay=HOUR), Submission(message(), "mail", share="fab")
    lease.send([later])
    lease.send([shared])
    assert shard.states([later.message.id, shared.message.id]) == ["scheduled", "queued"]
    assert shard.find(shared.message.id).share == "fab"


def test_a_sleeping_worker_is_woken(shard: Shard, hand: Hand) -> None:
    hand.sleep()
    lease = lease_of(shard)
    lease.take()
    lease.send(some())
    assert shard.redis("LLEN", shard.keys.queue("default").wake) == 1


def test_a_taken_idempotency_key_is_told(shard: Shard) -> None:
    lease = lease_of(shard)
    lease.take()
    first, second = some(2, idempotency_key="k")
    assert [(each.id, each.created) for each in lease.send([first, second])] == [
        (first.message.id, True),
        (first.message.id, False),
    ]


@pytest.mark.parametrize(("field", "value"), [("until", "1"), ("owner", "r2"), ("token", "77")])
@pytest.mark.parametrize("queue", ["default", "news"])
def test_without_the_lease_nothing_is_sent(bounded: Shard, queue: str, field: str, value: str) -> None:
    lease = lease_of(bounded)
    lease.take()
    change(bounded, field, value)
    with pytest.raises(LeaseLost):
        lease.send(some(1, queue))
    assert bounded.index() == {}


def test_nor_is_it_where_there_never_was_one(shard: Shard) -> None:
    with pytest.raises(LeaseLost):
        lease_of(shard).send(some())


def test_a_call_from_before_the_last_look_is_void(shard: Shard) -> None:
    lease = lease_of(shard)
    lease.take()
    before = lease._token
    lease.take()
    lease._token = before
    with pytest.raises(LeaseLost):
        lease.send(some())


def test_a_full_queue_takes_none_of_a_batch(bounded: Shard) -> None:
    lease = lease_of(bounded)
    lease.take()
    lease.send(some(2, "mail"))
    with pytest.raises(QueueFull) as caught:
        lease.send(some(2, "mail"))
    assert (caught.value.depth, caught.value.limit) == (2, LIMIT)
    lease.send(some(1, "mail"))


def test_a_queue_that_drops_its_oldest_makes_room(bounded: Shard) -> None:
    lease, submissions = lease_of(bounded), some(5, "news")
    lease.take()
    for submission in submissions:
        lease.send([submission])
    assert bounded.states(ids(submissions)) == ["failed", "failed", "queued", "queued", "queued"]


def test_a_full_memory_refuses_what_is_new(shard: Shard) -> None:
    lease = lease_of(shard)
    lease.take()
    shard.seed_waiting()
    shard.fill_memory()
    with pytest.raises(BrokerFull):
        lease.send(some())
    shard.empty_memory()


# --- ending what was never sent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.CANCELLED, State.DISCARDED])
def test_what_is_withdrawn_ends_and_cannot_be_sent(shard: Shard, state: State) -> None:
    [submission] = some(args=b"[1]", idempotency_key="k")
    with shard.broker.listen(submission.message.id) as announcement:
        assert withdraw(shard.broker, submission, state, "why")
        assert announcement.wait(2)
    found = shard.find(submission.message.id)
    assert found.state == state
    assert found.outcome is not None
    assert (found.outcome.reason, found.outcome.args, found.outcome.recorded, found.outcome.run) == (
        "why", b"[1]", True, 1,
    )  # fmt: skip
    assert shard.totals() == {f"default:{state.value}": 1}
    lease = lease_of(shard)
    lease.take()
    lease.send([submission])
    assert shard.lane() == []
    assert shard.ended() == [(submission.message.id, state.value)]


def test_what_has_been_sent_is_not_withdrawn(shard: Shard, hire: Callable[..., Hand]) -> None:
    [waiting], hand = shard.seed_waiting(), hire()
    submission = Submission(message(id=waiting), "default")
    assert not withdraw(shard.broker, submission, State.CANCELLED, "late")
    hand.settle_all(hand.claim())
    assert not withdraw(shard.broker, submission, State.CANCELLED, "late")
    assert shard.ended() == [(waiting, "succeeded")]


def test_withdrawn_twice_it_ends_once(shard: Shard) -> None:
    [submission] = some()
    assert [withdraw(shard.broker, submission, State.CANCELLED, "") for _ in range(3)] == [True, False, False]
    assert len(shard.ended()) == 1


def test_a_full_memory_lets_a_call_be_withdrawn(shard: Shard) -> None:
    shard.seed_waiting()
    shard.fill_memory()
    withdrawn = withdraw(shard.broker, Submission(message(id=new_id()), "default"), State.CANCELLED, "")
    shard.empty_memory()
    assert withdrawn


def test_nudges_reach_the_relay_of_their_database(shard: Shard) -> None:
    listener = nudges(shard.broker, "default")
    nudge(shard.broker, "billing")
    assert not listener.wait(0.05)
    nudge(shard.broker, "default")
    assert listener.wait(2)
    listener.close()
