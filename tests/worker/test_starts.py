"""Starts that come later than Redis has handed them over move the plan of their rate limit."""

from __future__ import annotations

import time

import pytest

from django_taskq.broker import Broker, Submission
from django_taskq.core.gates import concurrency_gate, pack_queue_gates, rate_gate
from django_taskq.core.message import Message
from django_taskq.exceptions import BrokerRefused, BrokerUnavailable
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import parse_rate
from django_taskq.worker.starts import Starts, late_starts
from tests.broker.helpers import Hand, Shard, message
from tests.broker.test_limits import gated
from tests.servers import wait_for

RATE = parse_rate("10/10s")
GATE = rate_gate("task:t", RATE, 1)
OF_QUEUE = {"default": QueueOptions(rate_limit=RATE)}


@pytest.fixture
def shard(broker: Broker) -> Shard:
    return Shard(broker)


def shift(shard: Shard, limit: str = "task:t") -> float:
    """Seconds by which the plan has moved."""
    return int(shard.redis("HGET", shard.keys.rate_prefix + limit, "s") or 0) / 1e6


def note_late(shard: Shard, hand: Hand, starts: Starts, seconds: float) -> None:
    [delivery] = hand.claim()
    delivery.claimed = time.monotonic() - seconds
    starts.note(delivery, Message.decode(delivery.fields).gates)


def test_a_late_start_moves_the_plan_by_what_it_is_too_late(shard: Shard) -> None:
    shard.send([Submission(gated(GATE), "default") for _ in range(2)])
    note_late(shard, Hand(shard), Starts(shard.broker.connections, shard.keys, {}), 0.5)
    wait_for(lambda: shift(shard) > 0)
    assert shift(shard) == pytest.approx(0.5 - 0.08, abs=0.05)
    [planned] = shard.scheduled().values()
    shard.pass_time(round(planned - shard.broker.time() * 1000))  # its moment by the plan as it was
    assert Hand(shard, "w2").claim() == []
    [later] = shard.scheduled().values()
    assert later - planned == pytest.approx(shift(shard) * 1000, abs=2)


def test_a_start_in_time_is_none_of_redis_business(shard: Shard) -> None:
    shard.send([Submission(gated(GATE), "default")])
    [delivery] = Hand(shard).claim()
    delivery.claimed = time.monotonic()
    assert late_starts(delivery, [GATE], delivery.claimed + 0.015) == []
    [(limit, _, _, allowed, most)] = late_starts(delivery, [GATE], delivery.claimed + 0.025)
    assert (limit, allowed, most) == ("task:t", 80_000, 10_000_000)


def test_rates_of_a_task_and_of_its_queue_both_hear_of_it(shard: Shard) -> None:
    hand = Hand(shard, gates=pack_queue_gates(OF_QUEUE))
    shard.send([Submission(gated(concurrency_gate("task:t", 1), GATE), "default")])
    note_late(shard, hand, Starts(shard.broker.connections, shard.keys, OF_QUEUE), 0.5)
    wait_for(lambda: shift(shard) > 0.3 and shift(shard, "queue:default") > 0.3)


def test_a_task_without_a_rate_of_its_own_counts_for_its_queue(shard: Shard) -> None:
    hand = Hand(shard, gates=pack_queue_gates(OF_QUEUE))
    shard.send([Submission(message(), "default")])
    note_late(shard, hand, Starts(shard.broker.connections, shard.keys, OF_QUEUE), 0.5)
    wait_for(lambda: shift(shard, "queue:default") > 0.3)


def test_what_was_late_is_told_when_redis_is_back(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    connections, tries = shard.broker.connections, []
    run = connections.run

    def run_at_the_third_try(*call: object) -> object:
        tries.append(call)
        if len(tries) < 3:
            raise BrokerUnavailable("away")
        return run(*call)  # type: ignore[arg-type]

    shard.send([Submission(gated(GATE), "default")])
    hand = Hand(shard)
    monkeypatch.setattr(connections, "run", run_at_the_third_try)
    note_late(shard, hand, Starts(connections, shard.keys, {}), 0.5)
    wait_for(lambda: shift(shard) > 0.3)


def test_what_redis_refuses_is_said_and_does_not_keep_the_next_from_being_told(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connections, tries = shard.broker.connections, []
    run = connections.run

    def run_at_the_second_try(*call: object) -> object:
        tries.append(call)
        if len(tries) == 1:
            raise BrokerRefused("no permissions to run late.lua")
        return run(*call)  # type: ignore[arg-type]

    shard.send([Submission(gated(GATE), "default")])
    hand, starts = Hand(shard), Starts(connections, shard.keys, {})
    [delivery] = hand.claim()
    delivery.claimed = time.monotonic() - 0.5
    monkeypatch.setattr(connections, "run", run_at_the_second_try)
    starts.note(delivery, Message.decode(delivery.fields).gates)
    wait_for(lambda: "1 late starts cannot be told to Redis" in caplog.text)
    assert "no permissions to run late.lua" in caplog.text
    starts.note(delivery, Message.decode(delivery.fields).gates)
    wait_for(lambda: shift(shard) > 0.3)
