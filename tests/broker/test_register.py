"""register: a new worker, beat counter 0. An id is never used twice."""

from __future__ import annotations

from django_taskq.broker.workers import Beat, new_worker_id
from tests.broker.helpers import Hand, Shard


def test_a_worker_is_listed_with_its_description(shard: Shard) -> None:
    shard.workers.register("w1", {"host": "h", "pid": 7})
    assert shard.workers.counters() == {"w1": 0}
    assert shard.hash(shard.keys.worker("w1")) == {b"host": b"h", b"pid": b"7"}


def test_a_worker_need_not_describe_itself(shard: Shard) -> None:
    shard.workers.register("w1", {})
    assert shard.workers.counters() == {"w1": 0}


def test_a_second_sending_does_not_set_the_counter_back(shard: Shard) -> None:
    shard.workers.register("w1", {"host": "h"})
    shard.workers.beat([Beat("w1", {})])
    shard.workers.register("w1", {"host": "h"})
    assert shard.workers.counters() == {"w1": 1}


def test_a_dead_worker_does_not_come_back(shard: Shard, hand: Hand) -> None:
    shard.workers.declare_dead("w1", None)
    shard.workers.register("w1", {"host": "h"})
    assert shard.workers.counters() == {"w1": -1}
    assert hand.ask().refused
    shard.workers.reclaim("w1")
    assert shard.names() == []


def test_ids_are_made_up_anew_each_time() -> None:
    assert len({new_worker_id() for _ in range(1000)}) == 1000


def test_a_full_redis_takes_workers(shard: Shard) -> None:
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    shard.workers.register("w1", {"host": "h"})
    shard.empty_memory()
    assert shard.workers.counters() == {"w1": 0}
