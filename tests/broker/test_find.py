"""find: where tasks are, in one round trip."""

from __future__ import annotations

from django_taskq.broker import Found
from django_taskq.core.ids import new_id
from django_taskq.core.states import State
from tests.broker.helpers import HOUR, Hand, Shard


def test_each_state_a_task_can_be_in(shard: Shard, hand: Hand) -> None:
    [succeeded], [failed] = shard.seed_ended(hand), shard.seed_ended(hand, status="failed")
    [running] = shard.seed_waiting()
    hand.claim()
    [queued], [scheduled], unknown = shard.seed_waiting(), shard.seed_scheduled(queue="mail"), new_id()
    found = shard.broker.find([unknown, scheduled, queued, running, succeeded, failed])
    assert [each.state for each in found] == [
        None, State.SCHEDULED, State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED,
    ]  # fmt: skip
    assert found[0] == Found(None)
    assert (found[1].queue, found[1].due, found[2].due) == ("mail", shard.scheduled("mail")[scheduled], None)
    assert [each.worker for each in found] == ["", "", "", "w1", "", ""]
    assert [each.message is None for each in found] == [True, False, False, False, True, True]
    assert [each.outcome is None for each in found] == [True, True, True, True, False, False]


def test_what_was_released_is_queued(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    hand.release(*hand.claim())
    assert (shard.find(id).state, shard.find(id).worker) == (State.QUEUED, "")


def test_nobody_is_asked_about(shard: Shard) -> None:
    assert shard.broker.find([]) == []


def test_a_thousand_at_once(shard: Shard) -> None:
    ids = shard.seed_waiting(500) + shard.seed_scheduled(500, delay=HOUR)
    assert shard.states(ids) == ["queued"] * 500 + ["scheduled"] * 500


def test_looking_changes_nothing(shard: Shard, hand: Hand) -> None:
    ids = [*shard.seed_ended(hand), *shard.seed_waiting(2), *shard.seed_scheduled()]
    hand.claim(1)
    before, pending = shard.contents(), shard.pending()
    shard.broker.find(ids)
    assert (shard.contents(), shard.pending()) == (before, pending)


def test_what_the_index_names_and_is_not_there_is_unknown(shard: Shard, hand: Hand) -> None:
    [ended] = shard.seed_ended(hand)
    [waiting], [scheduled] = shard.seed_waiting(), shard.seed_scheduled()
    shard.redis("DEL", shard.keys.outcomes, shard.keys.lane("default", 0))
    shard.redis("DEL", shard.keys.queue("default").scheduled)
    assert shard.states([ended, waiting, scheduled]) == [None, None, None]


def test_a_held_task_whose_group_is_gone_is_queued(shard: Shard, hand: Hand) -> None:
    [id] = shard.seed_waiting()
    hand.claim()
    shard.redis("XGROUP", "DESTROY", shard.keys.lane("default", 0), "workers")
    assert shard.find(id).state == State.QUEUED


def test_a_full_redis_and_one_that_forgot_its_scripts_answer(shard: Shard) -> None:
    [id] = shard.seed_waiting()
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert shard.find(id).state == State.QUEUED
    shard.empty_memory()
