"""Circuit breakers: closed, open, half open."""

from __future__ import annotations

import asyncio
import time

import pytest

from django_taskq import Breaker, BreakerOpen, TaskqError
from django_taskq.broker import Submission
from django_taskq.broker.gates import Gates
from django_taskq.core.gates import breaker_gate
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import gated
from tests.servers import RedisServer

crm = Breaker("crm", failures=3, within=60, cooldown=0.2)
SHORT = 0.25  # seconds; more than the cooldown


def send(shard: Shard, count: int = 1, cooldown: int = 200) -> list[bytes]:
    return shard.send([Submission(gated(breaker_gate("crm", cooldown)), "default") for _ in range(count)])


def fail(times: int) -> None:
    for _ in range(times):
        with pytest.raises(ZeroDivisionError), crm:
            raise ZeroDivisionError


def state(shard: Shard) -> tuple[str, int]:
    [found] = Gates(shard.broker.connections, shard.keys).breakers()
    return found.state, found.failures


def test_enough_failures_open_it(shard: Shard) -> None:
    fail(2)
    with crm:
        pass
    assert state(shard) == ("closed", 2)
    fail(1)
    with pytest.raises(BreakerOpen, match="ircuit breaker crm is open") as refusal, crm:
        raise AssertionError("not to be run")
    assert (refusal.value.breaker, 0 < refusal.value.seconds <= 0.2) == ("crm", True)


def test_old_failures_do_not_count(shard: Shard) -> None:
    fast = Breaker("crm", failures=2, within=0.05, cooldown=5)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), fast:
            raise ValueError("x")
        time.sleep(0.08)
    with fast:
        pass


def test_one_call_tries_after_the_cooldown_and_closes_it(shard: Shard) -> None:
    fail(3)
    time.sleep(SHORT)
    with crm, pytest.raises(BreakerOpen), crm:  # only one
        raise AssertionError("not to be run")
    assert state(shard) == ("closed", 0)


def test_one_call_tries_after_the_cooldown_and_opens_it_again(shard: Shard) -> None:
    fail(3)
    time.sleep(SHORT)
    fail(1)
    with pytest.raises(BreakerOpen), crm:
        raise AssertionError("not to be run")


def test_what_says_nothing_lets_another_try(shard: Shard) -> None:
    fail(3)
    time.sleep(SHORT)
    with pytest.raises(KeyboardInterrupt), crm:
        raise KeyboardInterrupt
    with crm:
        pass
    assert state(shard) == ("closed", 0)


def test_a_person_closes_it(shard: Shard) -> None:
    fail(3)
    crm.close()
    with crm:
        pass
    fail(3)
    Gates(shard.broker.connections, shard.keys).close_breaker("crm")
    with crm:
        pass


def test_blocks_may_be_nested_and_asynchronous(shard: Shard) -> None:
    async def run() -> None:
        async with crm, Breaker("other"):
            with crm:
                await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with crm:
                    raise ZeroDivisionError
        with pytest.raises(BreakerOpen):
            async with crm:
                raise AssertionError("not to be run")

    asyncio.run(run())


def test_messages_wait_while_it_is_open_and_use_nothing(shard: Shard, hand: Hand) -> None:
    fail(3)
    ids = send(shard, 3)
    assert hand.claim() == []
    assert shard.states(ids) == ["scheduled"] * 3
    assert max(shard.scheduled().values()) <= shard.broker.time() * 1000 + 200


def test_one_message_tries_and_the_others_wait(shard: Shard, hand: Hand) -> None:
    fail(3)
    ids = send(shard, 3)
    hand.claim()
    time.sleep(SHORT)
    [probe] = hand.claim()
    assert id_of(probe) == ids[0]
    assert hand.claim() == []
    crm.ask("success", ids[0])
    shard.pass_time(60_000)
    assert [id_of(each) for each in hand.claim()] == ids[1:]


def test_the_others_look_again_soon_after_a_short_cooldown(shard: Shard, hand: Hand) -> None:
    fail(3)
    send(shard, 3)
    hand.claim()
    time.sleep(SHORT)
    assert len(hand.claim()) == 1
    now = shard.broker.time() * 1000
    assert [0 < due - now <= 1000 for due in shard.scheduled().values()] == [True, True]
    with pytest.raises(BreakerOpen) as refusal, crm:
        raise AssertionError("not to be run")
    assert 0 < refusal.value.seconds <= 1.0


def test_a_probe_that_comes_back_from_a_dead_worker_tries_again(shard: Shard, hand: Hand) -> None:
    fail(3)
    [id] = send(shard)
    hand.claim()
    time.sleep(SHORT)
    hand.die(hand.claim())
    other = Hand(shard, "w2")
    assert [id_of(each) for each in other.claim()] == [id]
    crm.ask("success", id)
    assert state(shard) == ("closed", 0)


def test_a_probe_that_is_never_heard_of_makes_way(shard: Shard, hand: Hand) -> None:
    fail(3)
    ids = send(shard, 2)
    hand.claim()
    time.sleep(SHORT)
    assert len(hand.claim()) == 1
    shard.redis("HSET", shard.keys.breaker_prefix + "crm", "l", 1)
    shard.pass_time(60_000)
    assert [id_of(each) for each in hand.claim()] == ids[1:]


def test_it_is_as_open_as_before_when_redis_was_killed(shard: Shard, hand: Hand, redis_server: RedisServer) -> None:
    fail(3)
    first, *others = send(shard, 2)
    hand.claim()
    time.sleep(SHORT)
    assert [id_of(each) for each in hand.claim()] == [first]  # tries, and nobody else does
    redis_server.kill()
    redis_server.start()
    shard.broker.connections.close()
    shard.pass_time(60_000)
    other = Hand(shard, "w2")
    assert (other.claim(), state(shard)) == ([], ("half open", 0))
    with pytest.raises(BreakerOpen), crm:
        raise AssertionError("not to be run")
    crm.ask("success", first)
    shard.pass_time(60_000)
    assert ([id_of(each) for each in other.claim()], state(shard)) == (others, ("closed", 0))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "a b"}, "name"),
        ({"failures": 0}, "failures"),
        ({"failures": True}, "failures"),
        ({"within": 0}, "spans"),
        ({"cooldown": "1"}, "spans"),
    ],
)
def test_nonsense_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Breaker(**values)  # type: ignore[arg-type]


def test_a_block_needs_a_name() -> None:
    with pytest.raises(TaskqError, match="needs a name"), Breaker():
        pass
