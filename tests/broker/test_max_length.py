"""A queue with a maximum length: who is refused, who waits for room, what counts as waiting."""

from __future__ import annotations

import threading
import time

import pytest

from django_taskq.broker import Broker, Submission
from django_taskq.exceptions import QueueFull
from django_taskq.queue_options import QueueOptions
from tests.broker.helpers import Hand, Shard, id_of, message

LIMIT = 3


@pytest.fixture
def full(broker: Broker) -> Shard:
    """A shard whose queue `mail` takes three tasks; `default` takes any number."""
    return Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(LIMIT), "default": QueueOptions()}))


def send(shard: Shard, count: int = 1, **values: object) -> list[bytes]:
    return shard.seed_waiting(count, "mail", **values)


def waiting(shard: Shard) -> int:
    """Ready and scheduled tasks of `mail`, as Redis has them."""
    count = len(shard.scheduled("mail"))
    for lane in shard.lanes("mail"):
        pending = shard.redis("XPENDING", lane, "workers", "-", "+", 1000)
        count += shard.redis("XLEN", lane) - sum(consumer != b"returned" for _, consumer, _, _ in pending)
    return count


def test_a_full_queue_refuses_and_says_how_full_it_is(full: Shard) -> None:
    send(full, 3)
    with pytest.raises(QueueFull) as caught:
        send(full)
    assert (caught.value.queue, caught.value.depth, caught.value.limit) == ("mail", 3, 3)
    assert "Queue 'mail' is full: 3 tasks wait there, max_length=3 has no room for this one." in str(caught.value)
    assert waiting(full) == 3
    assert len(full.index()) == 3


def test_other_queues_do_not_care(full: Shard) -> None:
    send(full, 3)
    assert len(full.seed_waiting(10)) == 10


def test_a_batch_is_sent_whole_or_not_at_all(full: Shard) -> None:
    send(full, 1)
    with pytest.raises(QueueFull, match="has no room for 3 at once") as caught:
        send(full, 3)
    assert (caught.value.depth, waiting(full)) == (1, 1)
    send(full, 2)


def test_scheduled_tasks_and_those_of_every_priority_count(full: Shard) -> None:
    full.seed_scheduled(1, "mail")
    send(full, priority=7)
    full.send([Submission(message(priority=-3), "mail", share="f9")])
    with pytest.raises(QueueFull):
        send(full)
    with pytest.raises(QueueFull):
        full.seed_scheduled(1, "mail")


def test_what_a_worker_holds_does_not_count(full: Shard, hand: Hand) -> None:
    send(full, 3)
    held = hand.claim(2)
    send(full, 2)
    with pytest.raises(QueueFull):
        send(full)
    hand.release(held[0])  # waits again, and makes a fourth: that is never refused
    assert waiting(full) == 4
    with pytest.raises(QueueFull) as caught:
        send(full)
    assert caught.value.depth == 4


def test_retries_and_what_a_dead_worker_held_are_never_refused(full: Shard, hand: Hand) -> None:
    send(full, 3)
    first, second, third = hand.claim()
    send(full, 3)
    assert hand.retry(first) is None
    assert hand.release(second) == 1
    assert hand.die([third]) == 1
    assert waiting(full) == 6


def test_a_requeued_dead_letter_is_never_refused(full: Shard, hand: Hand) -> None:
    [id] = send(full)
    hand.bury(hand.claim()[0])
    send(full, 3)
    assert full.broker.requeue(message(id=id, run=2), "mail")
    assert waiting(full) == 4


def test_what_is_sent_again_after_a_lost_reply_is_no_new_task(full: Shard) -> None:
    sent = [Submission(message(), "mail") for _ in range(3)]
    full.send(sent)
    assert full.send(sent) == [each.message.id for each in sent]
    assert full.send([*sent[:1], *sent[:1]]) == [sent[0].message.id] * 2
    assert waiting(full) == 3


def test_a_task_whose_key_is_taken_needs_no_room(full: Shard) -> None:
    [first] = send(full, idempotency_key="k")
    send(full, 2)
    assert send(full, idempotency_key="k") == [first]


def test_room_is_there_as_soon_as_a_task_is_cancelled(full: Shard) -> None:
    first, *_ = send(full, 3)
    assert full.broker.cancel([first]) == [True]
    send(full)
    with pytest.raises(QueueFull):
        send(full)


def test_a_lane_whose_group_is_gone_counts_whole(full: Shard, hand: Hand) -> None:
    send(full, 3)
    hand.claim()
    full.redis("XGROUP", "DESTROY", full.keys.lane("mail", 0), "workers")
    with pytest.raises(QueueFull):
        send(full)


def test_of_a_queue_with_many_shares_the_length_is_counted_now_and_then(broker: Broker, hand: Hand) -> None:
    limit = 400
    shard = Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(limit)}))
    sent = [Submission(message(fair_key=str(number)), "mail") for number in range(limit)]
    shard.send(sent[:-1])
    shard.send(sent)  # those known already need no room
    with pytest.raises(QueueFull) as caught:
        send(shard)
    assert caught.value.depth == limit
    hand.claim(50)
    [accepted] = shard.broker.enqueue([Submission(message(), "mail")], patience=5)
    assert shard.find(accepted.id).state == "queued"


# --- waiting for room -------------------------------------------------------------------------------------------------


def test_a_producer_waits_for_room_as_long_as_it_may(full: Shard, hand: Hand) -> None:
    send(full, 3)
    started = time.monotonic()
    with pytest.raises(QueueFull):
        full.broker.enqueue([Submission(message(), "mail")], patience=0.2)
    assert 0.2 <= time.monotonic() - started < 1.0
    timer = threading.Timer(0.1, lambda: hand.settle_all(hand.claim(1)))
    timer.start()
    [accepted] = full.broker.enqueue([Submission(message(), "mail")], patience=5)
    timer.join()
    assert full.find(accepted.id).state == "queued"
    assert time.monotonic() - started < 2


def test_the_queue_says_how_long_to_wait_where_the_call_does_not(broker: Broker) -> None:
    shard = Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(1, enqueue_timeout=0.15)}))
    send(shard)
    started = time.monotonic()
    with pytest.raises(QueueFull):
        send(shard)
    assert time.monotonic() - started >= 0.15
    started = time.monotonic()
    with pytest.raises(QueueFull):
        shard.broker.enqueue([Submission(message(), "mail")], patience=0)
    assert time.monotonic() - started < 0.15


def test_nobody_waits_for_what_can_never_fit(full: Shard) -> None:
    started = time.monotonic()
    with pytest.raises(QueueFull):
        full.broker.enqueue([Submission(message(), "mail") for _ in range(4)], patience=5)
    assert time.monotonic() - started < 1


def test_of_many_at_once_as_many_are_accepted_as_there_is_room_for(full: Shard, hand: Hand) -> None:
    refused: list[QueueFull] = []

    def produce() -> None:
        for _ in range(10):
            try:
                send(full)
            except QueueFull as error:
                refused.append(error)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (waiting(full), len(refused)) == (3, 37)
    assert len({id_of(delivery) for delivery in hand.claim()}) == 3


def test_parts_of_a_long_batch_before_the_one_that_does_not_fit_are_sent(broker: Broker) -> None:
    shard = Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(700)}))
    accepted = shard.broker.enqueue_lane(Submission(message(), "mail") for _ in range(1200))
    with pytest.raises(QueueFull, match="no room for 500 at once"):
        list(accepted)
    assert waiting(shard) == 500
