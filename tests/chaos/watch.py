"""Reads the outcome stream as it grows, from a cursor of its own: the recorder's word is not taken for it."""

from __future__ import annotations

import threading

import redis

from django_taskq.core.ids import id_to_str
from django_taskq.core.outcome import decode_outcome
from tests.servers import RedisServer

EVERY = 0.05  # seconds


class Outcome:
    """What was settled, as the stream says."""

    __slots__ = ("id", "run", "status")

    def __init__(self, blob: bytes) -> None:
        outcome = decode_outcome(blob)
        self.id, self.run, self.status = id_to_str(outcome.id), outcome.run, outcome.status


class Watcher:
    """`seen`: entry -> outcome, of every settlement that Redis has not forgotten (a kill -9 can make it forget)."""

    def __init__(self, server: RedisServer, stream: str) -> None:
        self._server, self._stream = server, stream
        self._cursor = "0-0"
        self._stopping = threading.Event()
        self.seen: dict[str, Outcome] = {}
        self._thread = threading.Thread(target=self._run, name="chaos-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client = self._server.client(socket_timeout=2)
        while not self._stopping.wait(EVERY):
            try:
                self._read(client)
            except (redis.RedisError, OSError):
                continue
        client.close()

    def _read(self, client: redis.Redis) -> None:
        while entries := client.xrange(self._stream, f"({self._cursor}", "+", 1000):
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
            kept = {entry.decode() for entry, _ in client.xrange(self._stream)}
        gone = [entry for entry in self.seen if entry not in kept]
        if forgets:
            for entry in gone:
                del self.seen[entry]
        return gone
