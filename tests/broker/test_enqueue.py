"""enqueue: new messages of one lane, each at most once however often the producer sends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker import Accepted, Broker, Submission
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerFull, BrokerRefused
from tests.broker.helpers import HOUR, Hand, Shard, message


def now_ms(broker: Broker) -> int:
    return int(broker.time() * 1000)


# --- one message ------------------------------------------------------------------------------------------------------


def test_a_message_waits_in_the_lane_of_its_priority(shard: Shard) -> None:
    sent = message(args=b"[7]", priority=10)
    assert shard.broker.enqueue([Submission(sent, "mail")]) == [Accepted(sent.id, True)]
    [(entry, fields)] = shard.lane("mail", 10)
    assert fields == {b"i": sent.id, b"t": b"t", b"a": b"[7]", b"p": b"10"}
    assert shard.location(sent.id) == entry + b" mail:10"
    assert shard.lanes("mail") == {shard.keys.lane("mail", 10).encode(): 10}
    assert shard.ready() == {b"mail"}
    found = shard.find(sent.id)
    assert (found.state, found.queue, found.message) == (State.QUEUED, "mail", sent)


def test_a_delayed_message_waits_in_the_schedule_with_its_moment_of_sending(shard: Shard) -> None:
    before = now_ms(shard.broker)
    [id] = shard.seed_scheduled(delay=5000, args=b"[7]")
    after = now_ms(shard.broker)
    found = shard.find(id)
    assert (found.state, found.queue, found.location) == (State.SCHEDULED, "default", b"sdefault")
    assert found.message is not None
    assert found.message.enqueued is not None
    assert before <= found.message.enqueued <= after
    assert shard.scheduled() == {id: found.message.enqueued + 5000}
    assert shard.due() == {b"default": found.message.enqueued + 5000}


@pytest.mark.parametrize("delay", [{"delay": 0}, {"delay": -5000}, {"due": 1}, {"due": -1}])
def test_what_is_due_already_does_not_wait(shard: Shard, delay: dict[str, int]) -> None:
    sent = message()
    shard.send([Submission(sent, "default", **delay)])
    assert shard.find(sent.id).state == State.QUEUED
    assert not shard.names("scheduled*")


def test_an_absolute_time_is_kept_to_the_millisecond(shard: Shard) -> None:
    sent, due = message(), now_ms(shard.broker) + HOUR + 7
    shard.send([Submission(sent, "default", due=due)])
    assert shard.find(sent.id).due == due


def test_a_year_ahead_keeps_every_digit(shard: Shard) -> None:
    sent, due = message(), 4_102_444_800_123
    shard.send([Submission(sent, "default", due=due)])
    assert shard.scheduled() == {sent.id: due}


@pytest.mark.parametrize("delay", [None, HOUR])
def test_expires_counts_from_the_moment_of_sending_on_redis_clock(shard: Shard, delay: int | None) -> None:
    sent, before = message(), now_ms(shard.broker)
    shard.send([Submission(sent, "default", delay=delay, expires_in=60_000)])
    found = shard.find(sent.id).message
    assert found is not None
    assert found.expires is not None
    assert before + 60_000 <= found.expires <= now_ms(shard.broker) + 60_000


@pytest.mark.parametrize("delay", [None, HOUR])
@pytest.mark.parametrize("expires", [None, 30_000])
def test_a_deadline_counts_from_the_moment_of_sending_on_redis_clock(
    shard: Shard, delay: int | None, expires: int | None
) -> None:
    sent, before = message(), now_ms(shard.broker)
    shard.send([Submission(sent, "default", delay=delay, expires_in=expires, deadline_in=60_000)])
    found = shard.find(sent.id).message
    assert found is not None
    assert found.deadline is not None
    assert before + 60_000 <= found.deadline <= now_ms(shard.broker) + 60_000
    assert found.expires == (None if expires is None else found.deadline - 30_000)


def test_of_two_deadlines_the_sooner_one_counts(shard: Shard) -> None:
    now = now_ms(shard.broker)
    for inherited, own, expected in ((now + 5000, 60_000, now + 5000), (now + 90_000, 60_000, now + 60_000)):
        sent = message(deadline=inherited)
        shard.send([Submission(sent, "default", deadline_in=own)])
        found = shard.find(sent.id).message
        assert found is not None
        assert found.deadline is not None
        assert 0 <= found.deadline - expected < 1000


def test_arguments_arrive_byte_for_byte(shard: Shard, hand: Hand) -> None:
    args, kwargs = b'[[],{},1e400,12345678901234567890,"\\u0000"]', b'{"z":1,"a":[],"\xff":null}'
    now, later = message(args=args, kwargs=kwargs), message(args=args, kwargs=kwargs)
    shard.send([Submission(now, "default"), Submission(later, "default", delay=HOUR)])
    shard.pass_time()
    fields = [dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=True)) for delivery in hand.claim()]
    assert [(each[b"a"], each[b"k"]) for each in fields] == [(args, kwargs)] * 2


# --- known ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [None, HOUR])
def test_a_second_sending_of_an_id_writes_nothing(shard: Shard, delay: int | None) -> None:
    again = Submission(message(), "default", delay=delay)
    shard.send([again])
    before = shard.contents()
    assert shard.broker.enqueue([again]) == [Accepted(again.message.id, True)]
    assert shard.contents() == before


def test_an_id_is_known_while_it_is_held_and_after_it_has_ended(shard: Shard, hand: Hand) -> None:
    again = Submission(message(), "default")
    shard.send([again])
    [delivery] = hand.claim()
    shard.send([again])
    hand.settle_all([delivery])
    before = shard.contents()
    assert shard.broker.enqueue([again]) == [Accepted(again.message.id, True)]
    assert shard.contents() == before
    assert hand.claim() == []


def test_an_id_that_is_sent_twice_in_one_batch_counts_once(shard: Shard) -> None:
    again = Submission(message(), "default")
    assert shard.broker.enqueue([again, again]) == [Accepted(again.message.id, True)] * 2
    assert len(shard.lane()) == 1


def test_a_known_id_leaves_no_empty_lane_behind(shard: Shard, hand: Hand) -> None:
    again = Submission(message(), "default")
    shard.send([again])
    hand.settle_all(hand.claim())
    shard.send([again])
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_a_scheduled_message_opens_no_lane(shard: Shard) -> None:
    shard.seed_scheduled()
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


# --- batches ----------------------------------------------------------------------------------------------------------


def test_an_empty_batch_is_nothing(shard: Shard) -> None:
    assert shard.broker.enqueue([]) == []
    assert shard.names() == []


def test_a_batch_keeps_its_order_in_each_lane_and_in_the_answer(shard: Shard) -> None:
    submissions = [
        Submission(
            message(priority=number % 3), "default" if number % 2 else "mail", delay=None if number % 5 else HOUR
        )
        for number in range(60)
    ]
    accepted = shard.broker.enqueue(submissions)
    assert accepted == [Accepted(each.message.id, True) for each in submissions]
    for queue in ("default", "mail"):
        for priority in range(3):
            expected = [
                each.message.id for each in submissions
                if (each.queue, each.message.priority, each.delay) == (queue, priority, None)
            ]  # fmt: skip
            assert [fields[b"i"] for _, fields in shard.lane(queue, priority)] == expected


def test_a_thousand_messages_with_every_field_fit(shard: Shard) -> None:
    full = {
        "args": b"[1]", "kwargs": b'{"a":1}', "priority": 5, "run": 2, "attempt": 3, "losses": 1, "enqueued": 9,
        "first_started": 9, "expires": 9, "idempotency_ttl": 5, "options": {"record": "all"},
        "headers": {"a": "b"}, "worker_ids": ["w"],
    }  # fmt: skip
    submissions = [Submission(message(**full, idempotency_key=f"k{n}"), "default") for n in range(1000)]
    assert shard.broker.enqueue(submissions) == [Accepted(each.message.id, True) for each in submissions]
    assert len(shard.lane("default", 5)) == len(shard.index()) == 1000


def test_a_large_batch_goes_in_several_round_trips(shard: Shard) -> None:
    def calls() -> int:
        info = shard.redis("INFO", "commandstats").decode()
        return int(info.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])

    shard.seed_waiting()
    before = calls()
    shard.send([Submission(message(args=b"[" + b" " * 400_000 + b"]"), "default") for _ in range(5)])
    assert calls() - before == 3
    shard.send([Submission(message(), "default") for _ in range(501)])
    assert calls() - before == 5


# --- idempotency keys -------------------------------------------------------------------------------------------------


def test_the_first_owner_of_a_key_answers_for_the_second(shard: Shard) -> None:
    first, second = message(idempotency_key="k"), message(idempotency_key="k")
    assert shard.broker.enqueue([Submission(first, "default")]) == [Accepted(first.id, True)]
    before = shard.contents()
    assert shard.broker.enqueue([Submission(second, "default")]) == [Accepted(first.id, False)]
    assert shard.broker.enqueue([Submission(second, "mail", delay=HOUR)]) == [Accepted(first.id, False)]
    assert shard.contents() == before
    assert shard.owner("k") == first.id
    assert shard.key_ttl("k") == -1


def test_keys_of_other_tasks_do_not_collide(shard: Shard) -> None:
    mine, other = message("t", idempotency_key="k"), message("u", idempotency_key="k")
    accepted = shard.broker.enqueue([Submission(mine, "default"), Submission(other, "default")])
    assert [each.created for each in accepted] == [True, True]
    assert (shard.owner("k", "t"), shard.owner("k", "u")) == (mine.id, other.id)


def test_a_key_that_is_taken_within_the_batch_answers_with_its_first(shard: Shard) -> None:
    free, first, second = message(), message(idempotency_key="k"), message(idempotency_key="k")
    accepted = shard.broker.enqueue([Submission(each, "default") for each in (free, first, second)])
    assert accepted == [Accepted(free.id, True), Accepted(first.id, True), Accepted(first.id, False)]
    assert len(shard.lane()) == 2


def test_the_owner_may_repeat_itself(shard: Shard) -> None:
    again = Submission(message(idempotency_key="k"), "default")
    shard.send([again])
    assert shard.broker.enqueue([again]) == [Accepted(again.message.id, True)]
    assert len(shard.lane()) == 1


def test_a_repeated_sending_does_not_take_back_a_key_that_was_freed(shard: Shard, hand: Hand) -> None:
    again = Submission(message(idempotency_key="k"), "default")
    shard.send([again])
    assert hand.bury(hand.claim()[0], key="k") is None
    shard.send([again])
    assert shard.owner("k") is None


@pytest.mark.parametrize("left_behind", ["its place in the index", "its ended task"])
def test_a_key_that_was_left_behind_is_free(shard: Shard, hand: Hand, left_behind: str) -> None:
    """Somebody deleted the message, and with it what said which key it had."""
    [id] = shard.seed_waiting(idempotency_key="k")
    if left_behind == "its ended task":
        hand.bury(hand.claim()[0])  # by whoever could not read it
    else:
        shard.redis("DEL", shard.keys.index)
    assert shard.owner("k") == id
    [accepted] = shard.broker.enqueue([Submission(message(idempotency_key="k"), "default")])
    assert accepted.created
    assert shard.owner("k") == accepted.id


# --- waking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("messages", "sleepers", "tokens"), [(1, 3, 1), (5, 3, 3), (2, 0, 0), (3, 3, 3)])
def test_as_many_tokens_as_messages_or_sleepers(
    shard: Shard, hire: Callable[..., Hand], messages: int, sleepers: int, tokens: int
) -> None:
    for number in range(sleepers):
        hire(f"w{number}").sleep()
    shard.seed_waiting(messages)
    assert shard.tokens() == tokens


def test_tokens_that_nobody_has_taken_count(shard: Shard, hire: Callable[..., Hand]) -> None:
    for number in range(3):
        hire(f"w{number}").sleep()
    for expected in (1, 1, 2, 3, 3):
        shard.seed_waiting(expected)
        assert shard.tokens() == expected


def test_a_second_message_wakes_a_second_worker_when_the_first_is_on_its_way(
    shard: Shard, hire: Callable[..., Hand]
) -> None:
    hire("w1").sleep()
    hire("w2").sleep()
    shard.seed_waiting()
    assert shard.take_token()
    shard.seed_waiting()
    assert shard.take_token()


def test_only_workers_of_the_queue_are_woken(shard: Shard, hire: Callable[..., Hand]) -> None:
    hire("w1", queues=["mail"]).sleep()
    shard.seed_waiting()
    assert (shard.tokens("default"), shard.tokens("mail")) == (0, 0)
    shard.seed_waiting(queue="mail")
    assert (shard.tokens("default"), shard.tokens("mail")) == (0, 1)


def test_known_and_taken_messages_wake_nobody(shard: Shard, hand: Hand) -> None:
    first = Submission(message(idempotency_key="k"), "default")
    shard.send([first])
    hand.claim()
    hand.sleep()
    shard.send([first, Submission(message(idempotency_key="k"), "default")])
    assert shard.tokens() == 0


def test_a_task_due_before_the_others_wakes_one_sleeper(shard: Shard, hire: Callable[..., Hand]) -> None:
    hire("w1").sleep()
    hire("w2").sleep()
    shard.seed_scheduled(delay=HOUR)
    assert shard.tokens() == 1
    assert shard.take_token()
    shard.seed_scheduled(delay=2 * HOUR)
    assert shard.tokens() == 0
    shard.seed_scheduled(3, delay=HOUR // 2)
    assert shard.tokens() == 1


def test_tokens_vanish_when_nobody_takes_them(shard: Shard, hand: Hand) -> None:
    hand.sleep()
    shard.seed_waiting()
    assert 0 < shard.redis("PTTL", shard.keys.queue("default").wake) <= 10_000


def test_a_sleeper_whose_lease_is_over_is_not_counted(shard: Shard, hand: Hand) -> None:
    hand.sleep()
    shard.redis("ZADD", shard.keys.queue("default").sleepers, 1, hand.name)
    shard.seed_waiting()
    assert shard.tokens() == 0
    assert shard.sleepers() == set()


# --- what others did to Redis -----------------------------------------------------------------------------------------


def test_a_lane_that_another_producer_began_is_listed(shard: Shard, hand: Hand) -> None:
    shard.seed_bare("i", new_id(), "t", "t")
    shard.seed_waiting()
    assert shard.lanes() == {shard.keys.lane("default", 0).encode(): 0}
    assert shard.ready() == {b"default"}
    assert len(hand.claim()) == 2


def test_a_deleted_lane_begins_again(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.redis("DEL", shard.keys.lane("default", 0))
    [id] = shard.seed_waiting()
    assert [delivery.fields[1] for delivery in hand.claim()] == [id]


def test_deleted_lists_of_lanes_are_made_again(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting()
    shard.redis("DEL", shard.keys.queue("default").lanes, shard.keys.ready)
    ids += shard.seed_waiting()
    assert [delivery.fields[1] for delivery in hand.claim()] == ids


def test_without_its_index_an_id_is_new(shard: Shard) -> None:
    again = Submission(message(), "default")
    shard.send([again])
    shard.redis("DEL", shard.keys.index)
    shard.send([again])
    assert len(shard.lane()) == 2


# --- full memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [None, HOUR])
@pytest.mark.parametrize("opened", [False, True])
def test_a_full_redis_takes_nothing(shard: Shard, delay: int | None, opened: bool) -> None:
    if opened:
        shard.seed_waiting()
        shard.seed_scheduled()
    before = shard.contents()
    shard.fill_memory()
    submission = Submission(message(idempotency_key="k"), "default", delay=delay)
    with pytest.raises(BrokerFull, match="full"):
        shard.broker.enqueue([submission, Submission(message(), "default")])
    shard.empty_memory()
    assert shard.contents() == before
    assert shard.broker.enqueue([submission]) == [Accepted(submission.message.id, True)]


def test_a_full_redis_still_knows_what_it_has_accepted(shard: Shard) -> None:
    waiting, later = Submission(message(), "default"), Submission(message(), "mail", delay=HOUR)
    shard.send([waiting, later])
    shard.fill_memory()
    assert shard.broker.enqueue([waiting, later]) == [Accepted(each.message.id, True) for each in (waiting, later)]
    shard.empty_memory()


def test_a_message_redis_cannot_take_is_a_typed_error(shard: Shard) -> None:
    shard.redis("SET", shard.keys.index, "not a hash")
    with pytest.raises(BrokerRefused, match="WRONGTYPE"):
        shard.seed_waiting()
