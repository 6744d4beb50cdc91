"""enqueue_lane: one round trip's messages are made while Redis takes those before, and nothing else is different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_taskq.broker import Accepted, Submission
from django_taskq.broker.submission import BATCH
from django_taskq.exceptions import BrokerRefused
from tests.broker.helpers import Shard, message
from tests.servers import RedisServer


def test_messages_go_out_a_round_trip_at_a_time_in_their_order(shard: Shard) -> None:
    made: list[bytes] = []

    def submissions() -> Iterator[Submission]:
        for _ in range(2 * BATCH + 1):
            sent = message()
            made.append(sent.id)
            yield Submission(sent, "default")

    answers = shard.broker.enqueue_lane(submissions())
    assert next(answers) == Accepted(made[0], True)
    assert len(made) == 2 * BATCH + 1  # the second trip's are made, and what shows that it is full
    rest = list(answers)
    assert [made[0], *(accepted.id for accepted in rest)] == made
    assert [fields[b"i"] for _, fields in shard.lane()] == made


def test_a_connection_that_breaks_meanwhile_costs_nothing(shard: Shard, redis_server: RedisServer) -> None:
    made: list[bytes] = []

    def submissions() -> Iterator[Submission]:
        for number in range(3 * BATCH):
            if number in (BATCH + 1, 2 * BATCH + 1):
                with redis_server.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
            sent = message()
            made.append(sent.id)
            yield Submission(sent, "default")

    assert [accepted.id for accepted in shard.broker.enqueue_lane(submissions())] == made
    assert [fields[b"i"] for _, fields in shard.lane()] == made


def test_an_error_in_the_making_leaves_no_reply_behind_for_the_next_call(shard: Shard) -> None:
    def submissions() -> Iterator[Submission]:
        for _ in range(BATCH + 1):
            yield Submission(message(), "default")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(shard.broker.enqueue_lane(submissions()))
    later = message()
    assert shard.broker.enqueue([Submission(later, "default")]) == [Accepted(later.id, True)]
    assert shard.find(later.id).message == later


def test_what_redis_refuses_ends_it(shard: Shard) -> None:
    def submissions() -> Iterator[Submission]:
        for number in range(3 * BATCH):
            if number == BATCH + 1:
                shard.redis("SET", shard.keys.lane("default", 0) + "x", "")  # any command: Redis is done with the first
                shard.redis("RENAME", shard.keys.lane("default", 0) + "x", shard.keys.lane("default", 0))
            yield Submission(message(), "default")

    with pytest.raises(BrokerRefused):
        list(shard.broker.enqueue_lane(submissions()))
    assert shard.broker.time() > 0
