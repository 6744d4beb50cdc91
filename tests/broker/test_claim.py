"""claim: promotes what is due, then hands messages to one worker, within a budget; who gets nothing sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.delivery import Delivery
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from tests.broker.helpers import HOUR, SETTLED, Hand, Shard, id_of, message

Hire = Callable[..., Hand]


def ids_of(deliveries: list[Delivery]) -> list[bytes]:
    return [id_of(delivery) for delivery in deliveries]


# --- what is handed over ----------------------------------------------------------------------------------------------


def test_a_delivery_says_what_it_is_and_where_it_came_from(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting(queue="mail", priority=-7, args=b"[1]")
    before = shard.broker.time()
    claim = hand.ask()
    assert before <= claim.time <= shard.broker.time()
    [delivery] = claim.deliveries
    assert (delivery.lane.queue, delivery.lane.priority, delivery.losses, delivery.cancelled) == ("mail", -7, 0, False)
    assert delivery.location == shard.location(id)
    assert delivery.fields == [b"i", id, b"t", b"t", b"a", b"[1]", b"p", b"-7"]
    assert shard.pending("mail", -7) == {delivery.entry: (b"w1", 1)}
    found = shard.find(id)
    assert (found.state, found.worker) == (State.RUNNING, "w1")


def test_what_is_held_is_not_handed_out_again(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(3)
    assert len(hand.claim()) == 3
    assert hand.claim() == []
    assert hire("w2").claim() == []


def test_higher_priorities_come_first_and_arrival_decides_within_one(shard: Shard, hand: Hand) -> None:
    low, middle, high = (shard.seed_waiting(2, priority=priority) for priority in (-100, 0, 100))
    middle += shard.seed_waiting(priority=0)
    assert ids_of(hand.claim(4)) == high + middle[:2]
    high = shard.seed_waiting(priority=9)
    assert ids_of(hand.claim()) == high + middle[2:] + low


def test_queues_are_served_in_their_order(shard: Shard, hire: Hire) -> None:
    mail, default = shard.seed_waiting(2, "mail", priority=-5), shard.seed_waiting(2, priority=5)
    assert ids_of(hire("w1", queues=["mail", "default"]).claim(3)) == mail + default[:1]


def test_queues_take_turns_where_none_comes_first(shard: Shard, hire: Hire) -> None:
    shard.seed_waiting(4, "default")
    shard.seed_waiting(4, "mail")
    hand = hire("w1", ordered=False)
    assert {delivery.lane.queue for _ in range(2) for delivery in hand.claim(1)} == {"default", "mail"}


def test_only_the_workers_queues_are_served(shard: Shard, hire: Hire) -> None:
    shard.seed_waiting(queue="mail")
    assert hire("w1", queues=["default"]).claim() == []


def test_a_paused_queue_is_left_alone(shard: Shard, hand: Hand) -> None:
    shard.redis("SADD", shard.keys.paused, "default")
    waiting, due, mail = shard.seed_waiting(), shard.seed_scheduled(), shard.seed_waiting(queue="mail")
    shard.pass_time()
    assert ids_of(hand.claim()) == mail
    assert shard.states(due) == ["scheduled"]
    assert hand.sleep().next_due is None
    shard.redis("DEL", shard.keys.paused)
    assert ids_of(hand.claim())[:1] == waiting


# --- budget -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 8, 9, 40, 499])
def test_a_claim_takes_as_many_as_it_asked_for(shard: Shard, hand: Hand, most: int) -> None:
    ids = shard.seed_waiting(500)
    assert ids_of(hand.claim(most)) == ids[:most]
    assert ids_of(hand.claim(501 - most)) == ids[most:]


def test_the_budget_counts_over_lanes_and_queues(shard: Shard, hand: Hand) -> None:
    for priority in range(4):
        shard.seed_waiting(3, "default", priority=priority)
        shard.seed_waiting(3, "mail", priority=priority)
    assert [len(hand.claim(10)) for _ in range(4)] == [10, 10, 4, 0]


def test_no_claim_hands_over_more_than_500(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(600)
    assert [len(hand.claim(10_000)) for _ in range(3)] == [500, 100, 0]


def test_a_claim_ends_at_about_a_mebibyte(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(60, args=b"[" + b" " * 100_000 + b"]")
    assert len(hand.claim()) == 11


def test_large_messages_behind_small_ones_exceed_the_budget_by_a_few(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(200)
    shard.seed_waiting(64, args=b"[" + b" " * 200_000 + b"]")
    assert len(hand.claim()) <= 200 + 32


def test_a_message_larger_than_the_budget_is_handed_over(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(2, args=b"[" + b" " * 2_000_000 + b"]")
    assert len(hand.claim()) + len(hand.claim()) == 2


def test_returned_entries_use_up_the_budget_too(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(20, args=b"[" + b" " * 200_000 + b"]")
    held = [delivery for _ in range(4) for delivery in hand.claim(5)]
    assert hand.release(*held) == 20
    assert len(hand.claim()) == 6


# --- returned entries -------------------------------------------------------------------------------------------------


def test_returned_entries_come_before_fresh_ones_of_their_lane(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(4)
    taken = hand.claim(3)
    hand.release(taken[2], taken[0])
    assert ids_of(hire("w2").claim()) == [ids[0], ids[2], ids[3]]


def test_a_higher_lane_comes_before_what_was_returned_to_a_lower_one(shard: Shard, hand: Hand) -> None:
    [low] = shard.seed_waiting(priority=1)
    hand.release(*hand.claim())
    [high] = shard.seed_waiting(priority=2)
    assert ids_of(hand.claim()) == [high, low]


def test_a_returned_entry_that_was_deleted_is_passed_over(shard: Shard, hand: Hand) -> None:
    first, second = shard.seed_waiting(2)
    held = hand.claim()
    hand.release(*held)
    shard.redis("XDEL", held[0].lane.name, held[0].entry)
    assert ids_of(hand.claim()) == [second]
    assert shard.pending() == {held[1].entry: (b"w1", 1)}
    assert shard.find(first).state is None


def test_a_lane_whose_entries_were_all_deleted_disappears(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    [delivery] = hand.claim()
    hand.release(delivery)
    shard.redis("XDEL", delivery.lane.name, delivery.entry)
    assert hand.claim() == []
    assert hand.claim() == []
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_five_hundred_returned_entries_are_claimed_at_once(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(500)
    hand.release(*hand.claim())
    assert ids_of(hand.claim()) == ids


# --- promotion --------------------------------------------------------------------------------------------------------


def test_due_tasks_are_promoted_in_the_order_of_their_times(shard: Shard, hand: Hand) -> None:
    [waiting] = shard.seed_waiting()
    [late], [early] = shard.seed_scheduled(delay=HOUR), shard.seed_scheduled(delay=HOUR // 2)
    [urgent] = shard.seed_scheduled(delay=HOUR, priority=3)
    [future] = shard.seed_scheduled(delay=5 * HOUR)
    shard.pass_time()
    assert ids_of(hand.claim()) == [urgent, waiting, early, late]
    assert list(shard.scheduled()) == [future]
    assert shard.due() == {b"default": shard.scheduled()[future]}


def test_nothing_is_promoted_before_its_time(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_scheduled(delay=300)
    assert hand.claim() == []
    due = shard.find(id).due
    assert due is not None
    time.sleep(max(0, due / 1000 - shard.broker.time()) + 0.001)
    assert ids_of(hand.claim()) == [id]


def test_a_promoted_task_leaves_nothing_of_its_schedule(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_scheduled(3)
    shard.pass_time()
    assert len(hand.claim(1)) == 1
    assert shard.names("scheduled*") == shard.names("due") == []
    assert sorted(map(str, shard.states(ids))) == ["queued", "queued", "running"]


def test_a_claim_promotes_at_most_500_over_all_queues(shard: Shard, hand: Hand) -> None:
    shard.seed_scheduled(400, "default")
    shard.seed_scheduled(400, "mail")
    shard.pass_time()
    assert len(hand.claim(1)) == 1
    assert len(shard.scheduled("default")) + len(shard.scheduled("mail")) == 300
    assert len(hand.claim(500)) + len(hand.claim(500)) == 799


def test_a_claim_promotes_about_a_mebibyte(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_scheduled(10, "default", args=b"[" + b" " * 300_000 + b"]")
    ids += shard.seed_scheduled(10, "mail", args=b"[" + b" " * 300_000 + b"]")
    shard.pass_time()
    assert len(hand.claim(1)) == 1
    assert len(shard.scheduled("default")) + len(shard.scheduled("mail")) == 16
    assert {ids_of(hand.claim(1))[0] for _ in range(19)} < set(ids)
    assert shard.names("scheduled*") == []


def test_promotion_wakes_as_many_as_there_are_messages(shard: Shard, hire: Hire) -> None:
    shard.seed_scheduled(2)
    hands = [hire(f"w{number}") for number in range(4)]
    for hand in hands:
        hand.sleep()
    while shard.take_token():
        pass
    shard.pass_time()
    hire("w9").claim(1)
    assert shard.tokens() == 2


def test_a_due_time_that_is_too_early_is_put_right(shard: Shard, hand: Hand) -> None:
    [first], [second] = shard.seed_scheduled(delay=HOUR), shard.seed_scheduled(delay=5 * HOUR)
    assert shard.broker.cancel([first]) == [True]
    shard.pass_time(2 * HOUR)
    assert hand.claim() == []
    assert shard.due() == {b"default": shard.scheduled()[second]}


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", b"\x01", b"\x90", b"\x93\x01\xa1i\xa1x", b"\x92\xa9default:0\xa1i", b"\x80"]
)
def test_a_scheduled_message_that_cannot_be_read_goes_on_as_broken(shard: Shard, hand: Hand, packed: bytes) -> None:
    bad, good = shard.seed_scheduled(2)
    shard.redis("HSET", shard.keys.queue("default").messages, bad, packed)
    assert shard.find(bad).state == State.SCHEDULED
    assert shard.find(bad).message is None
    shard.pass_time()
    fields = {id_of(delivery): delivery.fields for delivery in hand.claim()}
    assert fields == {bad: [b"i", bad, b"broken", packed], good: [b"i", good, *fields[good][2:]]}
    assert shard.find(bad).state == State.RUNNING
    assert shard.names("scheduled*") == []


def test_a_schedule_without_its_message_goes_on_as_broken(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_scheduled()
    shard.redis("DEL", shard.keys.queue("default").messages)
    assert shard.find(id).message is None
    shard.pass_time()
    [delivery] = hand.claim()
    assert delivery.fields == [b"i", id, b"broken", b""]


# --- sleep ------------------------------------------------------------------------------------------------------------


def test_an_empty_handed_claim_registers_a_sleeper_in_all_its_queues(shard: Shard, hand: Hand) -> None:
    claim = hand.sleep(lease_ms=5000)
    assert claim.next_due is None
    assert shard.sleepers("default") == shard.sleepers("mail") == {b"w1"}
    assert 0 < shard.redis("PTTL", shard.keys.queue("mail").sleepers) <= 5000


def test_a_claim_without_a_lease_registers_nobody(shard: Shard, hand: Hand) -> None:
    hand.claim()
    assert shard.names("sleepers*") == []


def test_a_worker_that_got_something_does_not_sleep(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    assert hand.ask(lease_ms=5000).deliveries
    assert shard.names("sleepers*") == []


def test_who_was_asleep_is_awake_again(shard: Shard, hand: Hand, hire: Hire) -> None:
    hand.sleep()
    hire("w2").sleep()
    hand.ask(awake=False)
    assert shard.sleepers("default") == shard.sleepers("mail") == {b"w2"}


def test_who_gets_up_for_good_wakes_another(shard: Shard, hand: Hand, hire: Hire) -> None:
    """It may have been woken for a task, or the only one that knew when the next is due."""
    hand.sleep()
    hire("w2").sleep()
    shard.seed_waiting()
    assert shard.take_token()
    hand.deliveries.get_up(hand.connection)
    assert shard.sleepers("default") == shard.sleepers("mail") == {b"w2"}
    assert (shard.tokens("default"), shard.tokens("mail")) == (1, 1)
    assert 0 < shard.redis("PTTL", shard.keys.queue("default").wake) <= 10_000


def test_who_watched_for_a_due_task_and_got_another_wakes_a_new_watch(shard: Shard, hand: Hand, hire: Hire) -> None:
    hire("w2").sleep()  # before the task is sent: it knows nothing
    hand.sleep()
    shard.seed_scheduled(delay=2_000)
    assert shard.take_token()
    assert hand.ask(lease_ms=5000, awake=False).next_due is not None
    shard.seed_waiting()
    assert shard.take_token()  # taken by the one that knows
    assert len(hand.ask(1, awake=False).deliveries) == 1
    assert shard.tokens() == 1


def test_nobody_watches_for_what_is_due_when_all_have_woken(shard: Shard, hand: Hand, hire: Hire) -> None:
    hire("w2").sleep()
    shard.seed_scheduled(delay=HOUR)
    assert shard.take_token()
    hand.sleep()
    shard.seed_waiting()
    assert shard.take_token()
    assert len(hand.ask(2, awake=False).deliveries) == 1
    assert shard.tokens() == 0


def test_a_token_that_was_left_is_kept_for_the_next_message(shard: Shard, hand: Hand) -> None:
    hand.sleep()
    shard.seed_waiting()
    wake = shard.keys.queue("default").wake
    shard.redis("PEXPIRE", wake, 50)
    shard.seed_waiting()
    assert shard.redis("PTTL", wake) > 5_000


def test_a_sleeper_vanishes_with_its_lease(shard: Shard, hand: Hand) -> None:
    hand.sleep(lease_ms=20)
    time.sleep(0.03)
    assert shard.names("sleepers*") == []
    shard.seed_waiting()
    assert shard.tokens() == 0


def test_an_empty_handed_claim_learns_the_next_due_time_of_its_queues(shard: Shard, hire: Hire) -> None:
    shard.seed_scheduled(delay=3 * HOUR)
    [next] = shard.seed_scheduled(queue="mail", delay=2 * HOUR)
    shard.seed_scheduled(queue="other", delay=HOUR)
    due = shard.find(next).due
    assert due is not None
    assert hire("w1").sleep().next_due == due / 1000


def test_work_that_is_left_behind_wakes_another(shard: Shard, hand: Hand, hire: Hire) -> None:
    hire("w2").sleep()
    hire("w3").sleep()
    shard.seed_waiting(5)
    assert shard.take_token()
    assert shard.take_token()
    assert len(hand.claim(1)) == 1
    assert shard.tokens() == 1


def test_work_that_is_left_behind_in_a_later_queue_wakes_its_worker(shard: Shard, hand: Hand, hire: Hire) -> None:
    hire("w2", queues=["mail"]).sleep()
    shard.seed_waiting(3, "default")
    shard.seed_waiting(3, "mail")
    assert shard.take_token("mail")
    hand.claim(3)
    assert (shard.tokens("default"), shard.tokens("mail")) == (0, 1)


def test_a_worker_with_room_left_wakes_nobody(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(3)
    hire("w2", queues=["mail"]).sleep()
    hand.claim(4)
    assert shard.names("wake*") == []


# --- refused ----------------------------------------------------------------------------------------------------------


def test_unknown_and_dead_workers_get_nothing(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting()
    assert hire("w2", registered=False).ask().refused
    shard.workers.declare_dead("w1", None)
    assert hand.ask().refused
    assert shard.pending() == {}


def test_nothing_is_handed_out_while_too_many_outcomes_wait(shard: Shard, hire: Hire) -> None:
    hand = hire(max_outcomes=2)
    shard.seed_waiting(5)
    for expected in (1, 1, 0):
        batch = hand.claim(1)
        assert len(batch) == expected
        hand.settle_all(batch)
    assert hand.ask().full
    cursor = shard.broker.recorder_lease("r", 1000)
    [(entry, _)] = shard.broker.read_outcomes("0-0", 1)
    assert shard.broker.advance("r", cursor or "", entry, 1)
    assert len(hand.claim()) == 3


# --- what others did to Redis -----------------------------------------------------------------------------------------


def test_an_entry_that_came_by_a_bare_xadd_is_found_by_an_idle_worker(shard: Shard, hand: Hand) -> None:
    id = new_id()
    shard.seed_bare("i", id, "t", "t")
    assert hand.sleep().next_due is not None
    [delivery] = hand.claim()
    assert id_of(delivery) == id
    assert hand.complete(delivery) is SETTLED
    assert shard.find(id).state == State.SUCCEEDED


def test_a_bare_xadd_is_found_while_another_lane_of_its_queue_is_in_use(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting(priority=5)
    [long_running] = hand.claim()
    shard.seed_bare("i", new_id(), "t", "t")
    hand.sleep()
    assert len(hand.claim()) == 1
    assert hand.complete(long_running) is SETTLED


def test_a_bare_xadd_joins_a_lane_that_is_listed(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.seed_bare("i", new_id(), "t", "t")
    assert len(hand.claim()) == 2


def test_a_destroyed_group_is_made_again_and_delivers_everything(shard: Shard, hand: Hand, hire: Hire) -> None:
    ids = shard.seed_waiting(3)
    hand.claim(1)
    shard.redis("XGROUP", "DESTROY", shard.keys.lane("default", 0), "workers")
    assert shard.states(ids) == ["queued"] * 3
    assert ids_of(hire("w2").claim()) == ids


def test_what_is_listed_and_is_no_lane_is_passed_over(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    shard.redis("ZADD", shard.keys.queue("default").lanes, 100, "nonsense")
    assert ids_of(hand.claim()) == [id]


def test_a_deleted_lane_is_not_made_again(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.redis("DEL", shard.keys.lane("default", 0))
    assert hand.claim() == []
    assert (shard.names("queue:*"), shard.lanes(), shard.ready()) == ([], {}, set())


def test_a_deleted_list_of_lanes_is_made_again(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.redis("DEL", shard.keys.queue("default").lanes)
    hand.sleep()
    assert len(hand.claim()) == 1


def test_after_everything_was_deleted_workers_are_told_so(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.redis("FLUSHALL")
    assert hand.ask().refused


def test_an_empty_redis_is_left_empty(shard: Shard, hand: Hand) -> None:
    before = shard.contents()
    assert hand.claim() == []
    assert shard.contents() == before


# --- full memory, lost replies ----------------------------------------------------------------------------------------


def test_a_full_redis_hands_out_promotes_and_lets_sleep(shard: Shard, hand: Hand, hire: Hire) -> None:
    shard.seed_waiting(2)
    shard.seed_scheduled(2, priority=4)
    hand.release(*hand.claim(1))
    shard.pass_time()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert len(hire("w2").claim()) == 4
    hand.sleep()
    assert shard.sleepers() == {b"w1"}
    shard.empty_memory()


def test_deliveries_of_a_lost_reply_are_pending_with_the_worker(shard: Shard, hand: Hand) -> None:
    ids = shard.seed_waiting(3, priority=2)
    lost = hand.claim()
    assert hand.claim() == []
    found = hand.deliveries.pending(hand.connection)
    assert [(lane.suffix, entry, losses) for lane, entry, losses in found] == [
        (b"default:2", delivery.entry, 0) for delivery in lost
    ]
    fetched = [hand.deliveries.fetch(hand.connection, *item, 0.0) for item in found]
    assert [delivery.fields[1] for delivery in fetched if delivery] == ids
    assert shard.pending("default", 2) == {delivery.entry: (b"w1", 1) for delivery in lost}


def test_an_unknown_redis_error_is_not_swallowed(shard: Shard, hand: Hand) -> None:
    from redis.exceptions import ResponseError

    shard.send([Submission(message(), "default")])
    shard.redis("SET", shard.keys.paused, "not a set")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        hand.claim()
