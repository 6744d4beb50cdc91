"""beat: workers are alive; each gets the requests that wait for it."""

from __future__ import annotations

from collections.abc import Callable

from django_taskq.broker.workers import Beat, Workers
from tests.broker.helpers import Hand, Shard

Hire = Callable[..., Hand]


def test_each_beat_counts_and_leaves_what_the_worker_is_doing(shard: Shard, hand: Hand) -> None:
    for _ in range(3):
        assert hand.beat(running="1-1 default:0") == []
    assert shard.workers.counters() == {"w1": 3}
    fields = shard.hash(shard.keys.worker("w1"))
    assert fields[b"running"] == b"1-1 default:0"
    assert abs(int(fields[b"beat"]) - shard.broker.time()) < 5


def test_one_call_beats_for_many(shard: Shard, hire: Hire) -> None:
    names = [f"w{number}" for number in range(100)]
    for name in names[:50]:
        shard.workers.register(name, {})
    shard.redis("RPUSH", shard.keys.inbox("w7"), "quiet")
    replies = shard.workers.beat([Beat(name, {"rss": number}) for number, name in enumerate(names)])
    assert replies == {**{name: [] for name in names[:50]}, "w7": ["quiet"], **dict.fromkeys(names[50:])}
    assert shard.workers.counters() == dict.fromkeys(names[:50], 1)


def test_nobody_beats(shard: Shard) -> None:
    assert shard.workers.beat([]) == {}


def test_unknown_and_dead_workers_are_told_so_and_leave_nothing(shard: Shard, hand: Hand) -> None:
    shard.workers.declare_dead("w1", None)
    before = shard.contents()
    assert shard.workers.beat([Beat("w1", {"running": "x"}), Beat("w2", {"running": "x"})]) == {"w1": None, "w2": None}
    assert shard.contents() == before


def test_a_request_is_received_once(shard: Shard, hand: Hand) -> None:
    inbox = shard.keys.inbox("w1")
    shard.redis("RPUSH", inbox, "quiet", "cancel 1-1 default:0")
    assert hand.beat() == ["quiet", "cancel 1-1 default:0"]
    shard.redis("RPUSH", inbox, "stop")
    assert hand.beat() == ["stop"]
    assert hand.beat() == []
    assert shard.names("inbox*") == []


def test_a_lost_reply_loses_no_request(shard: Shard, hand: Hand) -> None:
    """The replies of `lost` never reach the one that beats."""
    inbox = shard.keys.inbox("w1")
    lost = Workers(shard.broker.connections, shard.keys)
    shard.redis("RPUSH", inbox, "a", "b")
    lost.beat([Beat("w1", {})])
    assert hand.beat() == ["a", "b"]
    shard.redis("RPUSH", inbox, "c")
    lost._received = dict(shard.workers._received)
    lost.beat([Beat("w1", {})])
    shard.redis("RPUSH", inbox, "d")
    assert hand.beat() == ["c", "d"]
    assert hand.beat() == []


def test_who_takes_over_the_beating_gets_what_was_not_confirmed(shard: Shard, hand: Hand) -> None:
    shard.redis("RPUSH", shard.keys.inbox("w1"), "a")
    assert hand.beat() == ["a"]
    orphan = Workers(shard.broker.connections, shard.keys)
    assert orphan.beat([Beat("w1", {})]) == {"w1": ["a"]}
    shard.redis("RPUSH", shard.keys.inbox("w1"), "b")
    assert orphan.beat([Beat("w1", {})]) == {"w1": ["b"]}


def test_a_beat_that_confirms_less_than_is_known_removes_nothing(shard: Shard, hand: Hand) -> None:
    shard.redis("RPUSH", shard.keys.inbox("w1"), "a", "b", "c")
    late = Workers(shard.broker.connections, shard.keys)
    late._received = {"w1": 1}
    for _ in range(2):
        hand.beat()
    shard.redis("RPUSH", shard.keys.inbox("w1"), "d", "e", "f")
    assert late.beat([Beat("w1", {})]) == {"w1": ["d", "e", "f"]}


def test_many_requests_come_500_at_a_time(shard: Shard, hand: Hand) -> None:
    requests = [f"cancel {number}" for number in range(1200)]
    shard.redis("RPUSH", shard.keys.inbox("w1"), *requests)
    received = [hand.beat() or [] for _ in range(4)]
    assert [len(batch) for batch in received] == [500, 500, 200, 0]
    assert [request for batch in received for request in batch] == requests


def test_a_full_redis_beats(shard: Shard, hand: Hand) -> None:
    shard.redis("RPUSH", shard.keys.inbox("w1"), "stop")
    shard.redis("SCRIPT", "FLUSH")
    shard.fill_memory()
    assert hand.beat(running="x" * 1000) == ["stop"]
    shard.empty_memory()
    assert shard.workers.counters() == {"w1": 1}
