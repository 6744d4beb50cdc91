"""Limits whose numbers a deployment has changed: they hold for what was sent and what waits, too."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import pytest

from django_taskq.broker import Submission, scripts
from django_taskq.broker.declarations import Declarations
from django_taskq.broker.scripts import Script
from django_taskq.core.gates import concurrency_gate, declared_numbers, pack_queue_gates, rate_gate
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import parse_rate
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import gated, holders, nothing_is_held, send, sweep
from tests.broker.test_rate import drain
from tests.broker.test_rate import send as send_rated

OF_TASK, OF_QUEUE = "task:t", "queue:mail"


@pytest.fixture
def declarations(shard: Shard) -> Declarations:
    return Declarations(shard.broker.connections, shard.keys)


def declare(
    declarations: Declarations, limit: str, most: int | None = None, rate: str | None = None, age: float = 0.0
) -> int:
    return declarations.declare(declared_numbers(limit, most, parse_rate(rate) if rate else None, 1), age)


def running(hand: Hand, most: int = 500) -> int:
    """How many more are handed over now."""
    return sum(len(hand.claim(most)) for _ in range(3))


def test_a_raised_limit_lets_those_go_on_who_were_blocked_by_the_old_one(
    shard: Shard, hand: Hand, declarations: Declarations
) -> None:
    ids = send(shard, 10, most=2)
    assert running(hand) == 2
    assert declare(declarations, OF_TASK, 5) == 0
    assert sweep(shard) == (0, 3)
    assert [id_of(each) for each in hand.claim()] == ids[2:5]
    assert sweep(shard) == (0, 0)
    assert holders(shard) == set(ids[:5])


def test_a_lowered_limit_holds_for_those_who_were_blocked_by_the_old_one(
    shard: Shard, hand: Hand, declarations: Declarations
) -> None:
    ids = send(shard, 10, most=5)
    first = hand.claim()
    assert len(first) == 5
    assert hand.claim() == []
    declare(declarations, OF_TASK, 2)
    hand.settle_all(first[:3])
    assert hand.claim() == []  # two are still running
    hand.settle_all(first[3:])
    ended = 5
    while deliveries := hand.claim():
        assert len(deliveries) <= 2
        ended += len(deliveries)
        hand.settle_all(deliveries)
    assert ended == len(ids)
    assert nothing_is_held(shard)


def test_a_limit_that_was_lifted_lets_everybody_go_on(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    send(shard, 1_300)
    for _ in range(3):
        running(hand)
    declare(declarations, OF_TASK, 3)
    declare(declarations, OF_TASK, None)
    assert sweep(shard)[1] == 1_000  # some at a time
    assert sweep(shard)[1] == 299
    assert running(hand, 500) == 1_299
    send(shard, 3)
    assert running(hand) == 3  # though their messages say that there is one place


def test_who_waits_for_another_limit_is_not_forgotten_when_a_call_lets_as_many_go_on_as_it_may(
    shard: Shard, hand: Hand, declarations: Declarations
) -> None:
    send(shard, 1_010)
    [_, waiting] = send(shard, 2, limit="task:other")
    held = [delivery for _ in range(3) for delivery in hand.claim()]
    assert len(held) == 2
    declare(declarations, OF_TASK, 2_000)
    hand.settle_all(held)
    assert shard.states([waiting]) == ["blocked"]  # the first limit's 1,000 came before
    sweep(shard)
    assert shard.states([waiting]) == ["queued"]


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_limit_of_a_queue_changes_for_workers_with_the_old_settings_too(
    shard: Shard, declarations: Declarations, before: int, after: int
) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"mail": QueueOptions(max_concurrency=before)}))
    shard.seed_waiting(9, queue="mail")
    held = hand.claim()
    assert (len(held), hand.claim()) == (before, [])
    declare(declarations, OF_QUEUE, after)
    sweep(shard)
    held += hand.claim()
    hand.settle_all(held)
    assert len(held) == max(before, after)
    ended = len(held)
    while deliveries := hand.claim():
        assert len(deliveries) == after
        ended += len(deliveries)
        hand.settle_all(deliveries)
    assert ended == 9
    assert nothing_is_held(shard)


def test_a_place_of_a_key_is_a_place_of_its_task(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    send(shard, 4, limit="task:t:a")
    send(shard, 4, limit="task:t:b")
    send(shard, 4, limit="task:other:a")
    declare(declarations, OF_TASK, 2)
    assert running(hand) == 2 + 2 + 1


def test_the_worker_that_started_last_is_right(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    assert declare(declarations, OF_TASK, 2, age=60) == 0
    assert declare(declarations, OF_TASK, 3, age=5) == 1
    assert declare(declarations, OF_TASK, 2, age=59) == 0  # its maintenance process was replaced
    assert declare(declarations, OF_TASK, 3, age=1) == 0  # another of the new ones
    assert declare(declarations, OF_TASK, 2, age=3) == 0
    send(shard, 6, most=1)
    assert running(hand) == 3


def test_numbers_that_cannot_be_read_are_none(shard: Shard, hand: Hand) -> None:
    shard.redis("HSET", shard.keys.declared, "c:task:t", "nonsense", "r:task:t", "7")
    send(shard, 3)
    assert running(hand) == 1


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_raised_rate_brings_forward_what_is_planned(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    sent = send_rated(shard, 20, "1/h")
    declare(declarations, OF_TASK, rate="1/h")
    assert declarations.replan(["default"]) == 0
    assert [id_of(each) for each in hand.claim()] == sent[:1]
    assert declare(declarations, OF_TASK, rate="100/s") == 1
    assert declarations.replan(["default"]) == 19
    assert declarations.replan(["default"]) == 0
    handed = drain(hand, 5, until=19)
    assert [id for _, id in handed] == sent[1:]
    assert min(b[0] - a[0] for a, b in itertools.pairwise(handed)) > 0.0101 * 0.3


def test_a_lowered_rate_puts_off_what_is_planned(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    sent = send_rated(shard, 20, "100/s")
    declare(declarations, OF_TASK, rate="100/s")
    first = hand.claim()
    assert declare(declarations, OF_TASK, rate="1/h") == 1
    time.sleep(0.03)  # some moments of the plan as it was
    assert hand.claim() == []
    declarations.replan(["default"])
    assert hand.claim() == []
    due = sorted(shard.scheduled().values())
    assert len(due) == len(sent) - len(first)
    assert all(b - a == pytest.approx(3_643_200, abs=50) for a, b in itertools.pairwise(due))


def test_thousands_are_planned_anew_in_order_and_only_once(
    shard: Shard, hand: Hand, declarations: Declarations
) -> None:
    sent = send_rated(shard, 1_200, "1/h")
    others = send_rated(shard, 30, "1/h", limit="task:other", task="other")
    declare(declarations, OF_TASK, rate="1/h")
    for _ in range(4):
        hand.claim()
    before = shard.scheduled()
    declare(declarations, OF_TASK, rate="2/h")
    assert declarations.replan(["default", "mail"]) == 1_199
    for _ in range(4):
        hand.claim()
    after = shard.scheduled()
    assert sorted(after, key=lambda id: after[id]) == sorted([*sent[1:], *others[1:]], key=lambda id: after[id])
    mine = [after[id] for id in sent[1:]]
    assert all(b - a == pytest.approx(1_821_600, abs=50) for a, b in itertools.pairwise(mine))
    assert {id: after[id] for id in others[1:]} == {id: before[id] for id in others[1:]}
    shard.redis("HSET", shard.keys.declared, "pr:task:t", "1")  # another worker's sweep does it again
    assert declarations.replan(["default"]) == 0


def test_none_is_passed_over_while_others_leave_the_schedule(
    shard: Shard, hand: Hand, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = shard.seed_scheduled(20, delay=60_000)
    send_rated(shard, 1_000, "1/h")
    declare(declarations, OF_TASK, rate="1/h")
    for _ in range(3):
        hand.claim()
    declare(declarations, OF_TASK, rate="2/h")
    connections = shard.broker.connections
    run = connections.run

    def run_and_cancel(script: Script, arguments: Sequence[Any]) -> Any:
        reply = run(script, arguments)
        if script is scripts.REPLAN and sooner:
            leaving, sooner[:] = list(sooner), []
            assert shard.broker.cancel(leaving) == [True] * 20
        return reply

    monkeypatch.setattr(connections, "run", run_and_cancel)
    assert declarations.replan(["default"]) == 999


def test_large_messages_are_planned_anew_a_few_at_a_time(
    shard: Shard, hand: Hand, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_rated(shard, 9, "1/h", args=b'["' + b"x" * 400_000 + b'"]')
    declare(declarations, OF_TASK, rate="1/h")
    for _ in range(4):
        hand.claim()
    assert len(shard.scheduled()) == 8
    declare(declarations, OF_TASK, rate="2/h")
    connections = shard.broker.connections
    run, replies = connections.run, []

    def run_and_note(script: Script, arguments: Sequence[Any]) -> Any:
        replies.append(run(script, arguments))
        return replies[-1]

    monkeypatch.setattr(connections, "run", run_and_note)
    assert declarations.replan(["default"]) == 8
    assert max(looked for looked, _ in replies) == 3


def test_a_rate_that_changes_once_more_meanwhile_is_planned_by_as_well(
    shard: Shard, hand: Hand, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send_rated(shard, 6, "1/h")
    declare(declarations, OF_TASK, rate="1/h")
    hand.claim()
    declare(declarations, OF_TASK, rate="2/h")
    connections = shard.broker.connections
    run, ends = connections.run, []

    def run_and_declare(script: Script, arguments: Sequence[Any]) -> Any:
        reply = run(script, arguments)
        if script is scripts.REPLAN:
            hand.claim()  # plans what went back, by what is about to be the old rate
            ends.extend([1] if reply == [0, 0] else [])
            if ends == [1, 1]:  # it has looked for the last time
                ends.append(1)
                declare(declarations, OF_TASK, rate="100/s", age=-1)
        return reply

    monkeypatch.setattr(connections, "run", run_and_declare)
    for _ in range(2):
        declarations.replan(["default"])
    assert {id for _, id in drain(hand, 5, until=5)} == set(sent[1:])
    assert declarations.replan(["default"]) == 0
    assert not [field for field in declarations.known() if field.startswith("p")]


def test_a_rate_that_was_lifted_lets_everybody_start(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    sent = send_rated(shard, 9, "1/h")
    declare(declarations, OF_TASK, rate="1/h")
    hand.claim()
    declare(declarations, OF_TASK)
    assert declarations.replan(["default"]) == 8
    assert {id_of(each) for each in hand.claim()} == set(sent[1:])


def test_the_rate_of_a_queue_changes_too(shard: Shard, declarations: Declarations) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"mail": QueueOptions(rate_limit=parse_rate("1/h"))}))
    gate = rate_gate("task:t", parse_rate("1000/s"), 1)
    ids = shard.send([Submission(gated(gate), "mail") for _ in range(5)])
    declare(declarations, OF_QUEUE, rate="1/h")
    hand.claim()
    declare(declarations, OF_QUEUE, rate="100/s")
    assert declarations.replan(["default", "mail"]) == 4
    assert {id for _, id in drain(hand, 5, until=4)} == set(ids[1:])


def test_places_and_rates_are_declared_together(shard: Shard, hand: Hand, declarations: Declarations) -> None:
    gates = (concurrency_gate("task:t", 1), rate_gate("task:t", parse_rate("1/h"), 1))
    shard.send([Submission(gated(*gates), "default") for _ in range(4)])
    declare(declarations, OF_TASK, 4, "1/h")
    assert len(hand.claim()) == 1
    declare(declarations, OF_TASK)
    declarations.replan(["default"])
    assert running(hand) == 3


@pytest.mark.parametrize("queue", ["default", "mail"])
def test_what_is_planned_anew_may_open_its_lane_again(shard: Shard, declarations: Declarations, queue: str) -> None:
    hand = Hand(shard, gates=pack_queue_gates({"mail": QueueOptions(rate_limit=parse_rate("1/h"))}))
    sent = shard.seed_waiting(4, queue) if queue == "mail" else send_rated(shard, 4, "1/h")
    limit = OF_QUEUE if queue == "mail" else OF_TASK
    declare(declarations, limit, rate="1/h")
    hand.settle_all(hand.claim())  # the others are planned: the lane has gone with its last entry
    assert len(shard.scheduled(queue)) == 3
    declare(declarations, limit, rate="100/s")
    assert declarations.replan([queue]) == 3
    assert {id for _, id in drain(hand, 5, until=3)} == set(sent[1:])
