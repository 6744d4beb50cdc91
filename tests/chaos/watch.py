"""Looks into Redis while a run lasts: what is settled, from a cursor of its own, and who is a consumer.

The recorder's word is not taken for it.
"""

from __future__ import annotations

import contextlib
import threading
import time

import redis

from django_taskq.broker.keys import Keys
from django_taskq.core.ids import id_to_str
from django_taskq.core.outcome import decode_outcome
from tests.chaos.tasks import PLACES
from tests.servers import RedisServer

EVERY = 0.05  # seconds


class Outcome:
    """What was settled, as the stream says, and when that was seen."""

    __slots__ = ("at", "id", "run", "status")

    def __init__(self, blob: bytes) -> None:
        outcome, self.at = decode_outcome(blob), time.monotonic()
        self.id, self.run, self.status = id_to_str(outcome.id), outcome.run, outcome.status


def breaker_now(client: redis.Redis, keys: Keys) -> str:
    """The state of the load's circuit breaker: closed, or open, which here includes half open."""
    return "open" if client.hexists(keys.breaker_prefix + "elsewhere", "u") else "closed"


class Watcher:
    """`seen`: entry -> outcome, of every settlement that Redis has not forgotten (a kill -9 can make it forget).

    `strays`: consumers that were found in a lane's group after their worker had left the register.
    `crowded`: limits with more holders than places.
    `breaker`: the states in which the load's circuit breaker was seen.
    """

    def __init__(self, server: RedisServer, keys: Keys) -> None:
        self._server, self._keys = server, keys
        self._cursor = "0-0"
        self._stopping = threading.Event()
        self.seen: dict[str, Outcome] = {}
        self.strays: set[str] = set()
        self.crowded: set[str] = set()
        self.breaker: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="chaos-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, suspects = self._server.client(socket_timeout=2), set[str]()
        while not self._stopping.wait(EVERY):
            try:
                self._read(client)
                self._count_holders(client)
                self.breaker.add(breaker_now(client, self._keys))
                # In this order: a worker is in the register before it is in a lane, and stays there longer.
                consumers = self._consumers(client)
                self.strays |= suspects & consumers
                suspects = consumers - {name.decode() for name in client.zrange(self._keys.workers, 0, -1)}
            except (redis.RedisError, OSError):
                suspects = set()
        client.close()

    def _count_holders(self, client: redis.Redis) -> None:
        for limit in client.smembers(self._keys.limits):
            if client.hlen(self._keys.limit(limit.decode())) > PLACES:
                self.crowded.add(limit.decode())

    def _consumers(self, client: redis.Redis) -> set[str]:
        """Of all lanes that there are at this moment."""
        found = set()
        for lane in client.scan_iter(f"{self._keys.lane_prefix}*", count=1000):
            with contextlib.suppress(redis.ResponseError):  # it is gone, or has no group
                found |= {consumer["name"].decode() for consumer in client.xinfo_consumers(lane, "workers")}
        return found - {"returned"}

    def _read(self, client: redis.Redis) -> None:
        while entries := client.xrange(self._keys.outcomes, f"({self._cursor}", "+", 1000):
            for entry, fields in entries:
                self._cursor = entry.decode()
                self.seen[self._cursor] = Outcome(fields[b"o"])

    def finish(self, *, forgets: bool) -> list[str]:
        """Reads the rest. Returns the entries that are no longer in the stream, and drops them where it may forget.

        Where nothing is trimmed while the run lasts, each of them was taken back.
        """
        self._stopping.set()
        self._thread.join(5)
        with self._server.client() as client:
            self._read(client)
            kept = {entry.decode() for entry, _ in client.xrange(self._keys.outcomes)}
        gone = [entry for entry in self.seen if entry not in kept]
        if forgets:
            for entry in gone:
                del self.seen[entry]
        return gone
