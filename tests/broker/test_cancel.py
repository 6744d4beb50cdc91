"""cancel: settles what no worker holds; for the rest it leaves a request and tells the worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker import Submission, scripts
from django_taskq.core.ids import new_id
from django_taskq.core.outcome import encode_outcome
from django_taskq.core.states import State
from tests.broker.helpers import HOUR, SETTLED, Hand, Shard, id_of, message, outcome_for

Hire = Callable[..., Hand]


def test_a_waiting_task_is_cancelled_now(shard: Shard, hand: Hand) -> None:
    first, second = shard.seed_waiting(2, priority=5, args=b"[1]", kwargs=b'{"a":2}')
    assert shard.broker.cancel([first], "not wanted") == [True]
    found = shard.find(first)
    assert found.state == State.CANCELLED
    outcome = found.outcome
    assert outcome is not None
    assert (outcome.reason, outcome.args, outcome.kwargs, outcome.queue, outcome.priority, outcome.recorded) == (
        "not wanted", b"[1]", b'{"a":2}', "default", 5, True,
    )  # fmt: skip
    assert outcome.enqueued is not None
    assert outcome.finished is not None
    assert outcome.enqueued <= outcome.finished
    assert [id_of(delivery) for delivery in hand.claim()] == [second]
    assert shard.totals() == {"default:cancelled": 1}


def test_the_last_waiting_task_takes_its_lane_with_it(shard: Shard) -> None:
    [id] = shard.seed_waiting()
    assert shard.broker.cancel([id]) == [True]
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_a_scheduled_task_is_cancelled_now(shard: Shard, hand: Hand) -> None:
    first, second = shard.seed_scheduled(2, queue="mail", priority=3)
    assert shard.broker.cancel([first]) == [True]
    assert shard.find(first).state == State.CANCELLED
    assert list(shard.scheduled("mail")) == [second]
    assert list(shard.hash(shard.keys.queue("mail").messages)) == [second]
    shard.pass_time()
    assert [id_of(delivery) for delivery in hand.claim()] == [second]


def test_a_task_waiting_for_its_next_attempt_is_cancelled_with_what_it_went_through(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    hand.retry(hand.claim()[0], first_started=2000, enqueued=1000, worker_ids=["w1"])
    assert shard.broker.cancel([id]) == [True]
    outcome = shard.find(id).outcome
    assert outcome is not None
    assert (outcome.attempts, outcome.first_started, outcome.enqueued, outcome.worker_ids) == (1, 2.0, 1.0, ["w1"])


def test_a_returned_task_is_cancelled_now(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    hand.release(*hand.claim())
    assert shard.broker.cancel([id]) == [True]
    assert hand.claim() == []
    assert shard.names("queue:*") == []


def test_a_held_task_is_left_to_its_worker_which_is_told(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(queue="mail", priority=2)
    [delivery] = hand.claim()
    before = shard.lane("mail", 2)
    assert shard.broker.cancel([id]) == [False]
    assert (shard.lane("mail", 2), shard.find(id).state) == (before, State.RUNNING)
    assert hand.beat() == [f"cancel {delivery.location.decode()}"]
    assert hand.complete(delivery, "cancelled") is SETTLED
    assert shard.names("cancels") == []


def test_a_request_that_comes_too_late_is_gone_with_the_task(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    shard.broker.cancel([id])
    assert hand.complete(delivery) is SETTLED
    assert shard.broker.cancel([id]) == [None]
    assert shard.find(id).state == State.SUCCEEDED
    assert shard.names("cancels") == []


def test_a_request_survives_release_and_the_death_of_the_worker(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(3)
    released, lost, _ = hand.claim()
    assert shard.broker.cancel(ids[:2]) == [False, False]
    hand.release(released)
    hand.die([lost])
    assert [delivery.cancelled for delivery in hire("w2").claim()] == [True, True, False]


def test_what_was_requested_is_settled_once_nobody_holds_it(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    deliveries = hand.claim()
    assert shard.broker.cancel([id, id]) == [False, False]
    hand.release(*deliveries)
    assert shard.broker.cancel([id, id]) == [True, None]
    assert shard.names("cancels") == []


def test_unknown_and_ended_tasks_are_neither(shard: Shard, hand: Hand) -> None:
    [ended] = shard.seed_ended(hand)
    before = shard.contents()
    assert shard.broker.cancel([new_id(), ended]) == [None, None]
    assert shard.broker.cancel([]) == []
    assert shard.contents() == before


def test_the_end_is_announced(shard: Shard) -> None:
    [id] = shard.seed_scheduled()
    with shard.broker.listen(id) as listener:
        shard.broker.cancel([id])
        assert listener.wait(5)


def test_the_idempotency_key_is_free_again(shard: Shard) -> None:
    [id] = shard.seed_scheduled(idempotency_key="k")
    shard.broker.cancel([id])
    [accepted] = shard.broker.enqueue([Submission(message(idempotency_key="k"), "default")])
    assert accepted.created


def test_a_key_that_belongs_to_another_task_by_now_is_left_alone(shard: Shard) -> None:
    [id] = shard.seed_waiting(idempotency_key="k")
    shard.redis("DEL", shard.keys.idempotency("t", "k"))
    [other] = shard.seed_scheduled(idempotency_key="k")
    shard.broker.cancel([id])
    assert shard.owner("k") == other


@pytest.mark.parametrize("seed", ["seed_waiting", "seed_scheduled"])
def test_what_has_moved_since_it_was_seen_is_left_alone(shard: Shard, hand: Hand, seed: str) -> None:
    [id] = getattr(shard, seed)()
    seen = shard.find(id)
    shard.pass_time()
    [delivery] = hand.claim()
    if seed == "seed_waiting":
        hand.retry(delivery)
    before = shard.contents()
    arguments = (
        *shard.broker.lanes.head("default", 0), shard.keys.inbox_prefix,
        id, seen.location, outcome_for(id, "cancelled"), "", "c   t",
    )  # fmt: skip
    assert shard.broker.connections.run(scripts.CANCEL, arguments) == [0]
    assert shard.contents() == before


def test_many_in_one_call_each_get_an_answer(shard: Shard, hand: Hand) -> None:
    waiting, unknown = shard.seed_waiting(250), new_id()
    held = [id_of(delivery) for delivery in hand.claim(50)]
    scheduled = shard.seed_scheduled(250)
    arguments = [*shard.broker.lanes.head("default", 0), shard.keys.inbox_prefix]
    for id in [*waiting, *scheduled]:
        arguments += [id, shard.location(id), outcome_for(id, "cancelled"), "", "c   t"]
    arguments += [unknown, b"sdefault", outcome_for(unknown, "cancelled"), "", "c   t"]
    arguments += [waiting[60], shard.location(waiting[60]), outcome_for(waiting[60], "cancelled"), "", "c   t"]
    codes = shard.broker.connections.run(scripts.CANCEL, arguments)
    assert codes == [2] * 50 + [1] * 450 + [0, 0]
    assert {outcome.id for outcome in shard.outcomes()} == {*waiting, *scheduled} - set(held)
    assert set(shard.hash(shard.keys.cancels)) == set(held)
    assert len(shard.lane()) == 50


# --- what others did to Redis -----------------------------------------------------------------------------------------


def test_the_lane_is_where_the_task_is_not_what_its_message_says(shard: Shard, hand: Hand) -> None:
    id = new_id()
    shard.seed_waiting(priority=5)
    shard.seed_bare("i", id, "t", "t", priority=5)
    assert hand.retry(hand.claim()[1], 0.0) is SETTLED
    hand.release(*hand.claim())
    assert shard.broker.cancel([id]) == [True]
    assert id not in [id_of(delivery) for delivery in hand.claim()]
    assert [outcome.priority for outcome in shard.outcomes()] == [5]


def test_a_destroyed_group_means_that_nobody_holds_it(shard: Shard, hand: Hand, hire: Hire) -> None:
    [id] = shard.seed_waiting()
    [delivery] = hand.claim()
    shard.redis("XGROUP", "DESTROY", delivery.lane.name, "workers")
    assert shard.broker.cancel([id]) == [True]
    assert hand.complete(delivery) == 0
    assert hire("w2").claim() == []
    assert shard.ended() == [(id, "cancelled")]


def test_a_deleted_lane_makes_its_tasks_unknown(shard: Shard) -> None:
    ids = shard.seed_waiting(2)
    shard.redis("DEL", shard.keys.lane("default", 0))
    assert shard.broker.cancel(ids) == [None, None]
    assert shard.outcomes() == []


def test_a_message_that_cannot_be_read_is_left_to_a_worker(shard: Shard) -> None:
    [id] = shard.seed_scheduled()
    shard.redis("HSET", shard.keys.queue("default").messages, id, "broken")
    assert shard.broker.cancel([id]) == [None]
    assert list(shard.scheduled()) == [id]


def test_a_full_redis_cancels(shard: Shard, hand: Hand) -> None:
    [held] = shard.seed_waiting()
    hand.claim()
    [waiting], [scheduled] = shard.seed_waiting(), shard.seed_scheduled(delay=HOUR)
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert shard.broker.cancel([held, waiting, scheduled]) == [False, True, True]
    shard.empty_memory()
    assert shard.states([held, waiting, scheduled]) == ["running", "cancelled", "cancelled"]
    assert encode_outcome(shard.outcomes()[0])
