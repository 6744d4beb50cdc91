"""forget: a worker that was declared dead and holds nothing leaves the register."""

from __future__ import annotations

from django_taskq.broker import scripts
from tests.broker.helpers import Hand, Shard


def forget(shard: Shard, worker: str) -> int:
    names = (shard.keys.workers, shard.keys.worker(worker), shard.keys.inbox(worker))
    return int(shard.broker.connections.run(scripts.FORGET, (3, *names, worker)))


def test_nothing_of_a_dead_worker_stays(shard: Shard, hand: Hand) -> None:
    hand.beat(running="x")
    shard.redis("RPUSH", shard.keys.inbox("w1"), "stop")
    shard.workers.declare_dead("w1", None)
    assert forget(shard, "w1") == 1
    assert shard.names() == []


def test_the_living_are_not_forgotten(shard: Shard, hand: Hand) -> None:
    before = shard.contents()
    assert forget(shard, "w1") == 0
    assert shard.contents() == before


def test_a_second_sending_changes_nothing(shard: Shard, hand: Hand) -> None:
    shard.workers.register("w2", {})
    shard.workers.declare_dead("w1", None)
    forget(shard, "w1")
    before = shard.contents()
    forget(shard, "w1")
    assert shard.contents() == before


def test_the_forgotten_are_refused(shard: Shard, hand: Hand) -> None:
    shard.seed_waiting()
    shard.workers.declare_dead("w1", None)
    forget(shard, "w1")
    assert hand.ask().refused
    assert hand.beat() is None


def test_a_full_redis_forgets(shard: Shard, hand: Hand) -> None:
    shard.workers.declare_dead("w1", None)
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert forget(shard, "w1") == 1
    shard.empty_memory()
