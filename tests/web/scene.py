"""Puts a queue into a state for the live pages: workers that beat, tasks that run, minutes that have passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import redis
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client

from django_taskq.admin import shared
from django_taskq.broker import Broker
from django_taskq.broker.gates import Gates
from django_taskq.broker.statistics import Depth, Statistics
from django_taskq.broker.workers import Beat
from django_taskq.core.gates import concurrency_gate
from django_taskq.core.histogram import bucket_of
from django_taskq.core.ids import id_to_str
from django_taskq.core.progress import Progress, encode_progress
from tests.broker.helpers import Hand, Shard, id_of

ADMIN = "/admin/django_taskq/"
OVERVIEW, QUEUES, WORKERS, TYPES, LIMITS = (
    f"{ADMIN}{name}/" for name in ("overview", "queue", "worker", "tasktype", "limit")
)
LIVE = (OVERVIEW, QUEUES, WORKERS, TYPES, LIMITS)
HOSTILE = "<script>alert(1)</script>\"'&"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


class Scene:
    """One Redis as the pages see it."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.shard = broker, Shard(broker)
        self.minute = int(broker.time()) // 60
        self._hands: list[Hand] = []

    def worker(self, name: str = "w1", *, queues: tuple[str, ...] = ("default", "mail"), **fields: Any) -> Hand:
        """A worker that has just beaten."""
        hand = Hand(self.shard, name, queues=queues)
        self._hands.append(hand)
        self.beat(hand, queues=",".join(queues), **fields)
        return hand

    def beat(self, hand: Hand, **fields: Any) -> None:
        now = self.broker.time()
        described: dict[str, Any] = {
            "host": "web-1",
            "pid": 4711,
            "threads": 4,
            "started": now - 60,
            "state": "running",
            "rss": 2**26,
        }
        self.shard.workers.beat([Beat(hand.name, {**described, **fields})])

    def silence(self, hand: Hand, seconds: float) -> None:
        """As if the worker had beaten for the last time so long ago."""
        self.shard.redis("HSET", self.shard.keys.worker(hand.name), "beat", str(self.broker.time() - seconds))

    def run(self, hand: Hand, progress: Progress | None = None, **values: Any) -> str:
        """A task that the worker runs; its id."""
        self.shard.seed_waiting(1, **values)
        [delivery] = hand.claim(1)
        told = encode_progress(progress) if progress else ""
        since = f"{self.broker.time() - 42:.3f}"
        self.beat(hand, queues=",".join(hand.deliveries.queues), running=delivery.location, since=since, progress=told)
        return id_to_str(id_of(delivery))

    def limited(self, hand: Hand, limit: str, calls: int, **values: Any) -> None:
        """A concurrency limit of one place: the worker holds one of its calls, the others are blocked."""
        gates = msgspec.msgpack.encode([concurrency_gate(limit, 1)])
        self.shard.seed_waiting(calls, gates=gates, **values)
        hand.claim(calls)

    def fail_breaker(self, name: str, *, failures: int = 1, cooldown: int = 30) -> None:
        """A circuit breaker hears of a failure, and opens after so many, for so many seconds."""
        gates = Gates(self.broker.connections, self.broker.keys)
        gates.ask_breaker("failure", name, "", failures, 60_000, cooldown * 1000)

    def past(self, minutes_ago: int = 1, *, task: str = "shop.send", queue: str = "default", **counts: int) -> None:
        """A minute in which that happened; runs took 250 ms, and waits 40 ms."""
        letters = {name[0]: count for name, count in counts.items() if name != "enqueued"}
        attempts = sum(letters.values())
        counters = {**letters, f"r{bucket_of(0.25)}": attempts, f"w{bucket_of(0.04)}": attempts}
        packed = msgspec.msgpack.encode(counters)
        key = f"{self.broker.keys.stats_prefix}{self.minute - minutes_ago}"
        accepted = ("e:" + queue, counts.get("enqueued", 0))
        self.shard.redis("HSET", key, "all", packed, f"t:{queue}:{task}", packed, *accepted)

    def depth(self, ready: int, *queues: str, minutes_ago: int = 1) -> None:
        Statistics(self.broker).sample(self.minute - minutes_ago, {queue: Depth(ready, 0) for queue in queues})

    def close(self) -> None:
        for hand in self._hands:
            hand.connection.disconnect()


def page(client: Client, url: str, **query: str) -> str:
    """The page's text without its tags' layout; asserts that it is there."""
    response = client.get(url, query)
    assert response.status_code == 200, response
    return text_of(response)


def text_of(response: HttpResponseBase) -> str:
    assert isinstance(response, HttpResponse)
    return re.sub(r"\s+", " ", response.content.decode())


def words(content: str) -> str:
    """What a reader sees of a page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", content[content.index('id="content-main"') :]))


def look_anew(broker: Broker) -> None:
    """As if the second for which a look is kept had passed."""
    shared._kept.pop(broker, None)


@contextmanager
def counting(monkeypatch: Any) -> Iterator[Callable[[], int]]:
    """How many times something is sent to Redis: round trips, and commands that fetch something."""
    sent = 0
    original: Callable[..., Any] = redis.connection.AbstractConnection.send_packed_command

    def send(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal sent
        sent += 1
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.AbstractConnection, "send_packed_command", send)
        yield lambda: sent
