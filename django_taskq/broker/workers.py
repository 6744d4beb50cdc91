"""The register of workers: who is alive, what each is running, and what becomes of the deliveries of a dead one."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

RECLAIM_BATCH = 500
DEAD = -1


class Beat(NamedTuple):
    """One worker's sign of life. `fields` go into its hash."""

    worker: str
    fields: Mapping[str, str | int | float]


def new_worker_id() -> str:
    """Random, never used again: `<host>-<pid>-<8 hex digits>`."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Workers:
    """Raises BrokerUnavailable, BrokerFull or BrokerRefused."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self.connections, self.keys = connections, keys
        self._received: dict[str, int] = {}  # requests by worker, which the next beat confirms

    def register(self, worker: str, fields: Mapping[str, str | int | float]) -> None:
        """Adds a worker with its description."""
        keys = (3, self.keys.index, self.keys.workers, self.keys.worker(worker))
        self.connections.run(scripts.REGISTER, (*keys, worker, *_flat(fields)))

    def beat(self, beats: Sequence[Beat]) -> dict[str, list[str] | None]:
        """Beats for several workers. Worker -> requests that waited for it, or None where it was declared dead.

        After a lost reply a request may come twice.
        """
        names: list[str] = [self.keys.index, self.keys.workers]
        arguments: list[Any] = []
        for worker, fields in beats:
            names += (self.keys.worker(worker), self.keys.inbox(worker))
            values = _flat(fields)
            arguments += (worker, self._received.get(worker, 0), len(values), *values)
        replies = self.connections.run(scripts.BEAT, (len(names), *names, *arguments))
        requests: dict[str, list[str] | None] = {}
        for (worker, _), (alive, *reply) in zip(beats, replies, strict=True):
            if alive:
                before, *texts = reply
                self._received[worker] = before + len(texts)
                requests[worker] = [text.decode() for text in texts]
            else:
                self._received.pop(worker, None)
                requests[worker] = None
        return requests

    def counters(self) -> dict[str, int]:
        """Worker -> beat counter; negative: declared dead, and not reclaimed to the end yet."""
        replies = self.connections.execute("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES")
        return {worker.decode(): int(float(beats)) for worker, beats in zip(replies[::2], replies[1::2], strict=True)}

    def queues_of(self, workers: Sequence[str]) -> set[str]:
        """The queues that any of these serves, as far as the register knows."""
        replies = self.connections.pipeline([("HGET", self.keys.worker(worker), "queues") for worker in workers])
        return {queue for reply in replies if reply for queue in reply.decode().split(",")}

    def declare_dead(self, worker: str, beats: int | None, running: Iterable[bytes] | None = None) -> bool:
        """From now on its claims and beats are refused. False: it has beaten since `beats`, or is unknown.

        `beats` None: the caller knows (its own child). `running`: locations it was running; None: as of its last beat.
        """
        noted = "-" if running is None else b"\n".join(running)
        keys = (3, self.keys.index, self.keys.workers, self.keys.worker(worker))
        arguments = (*keys, worker, "" if beats is None else beats, noted)
        dead = bool(self.connections.run(scripts.DECLARE_DEAD, arguments))
        if dead:
            self._received.pop(worker, None)
        return dead

    def reclaim(self, worker: str) -> int:
        """Hands on everything a dead worker held and forgets it. Returns how many deliveries. Safe to interrupt."""
        reclaimed = 0
        for queue in self.connections.execute("SMEMBERS", self.keys.ready):
            of_queue = self.keys.queue(queue.decode())
            names = (
                self.keys.index, self.keys.workers, self.keys.worker(worker), of_queue.lanes, of_queue.sleepers,
                of_queue.wake,
            )  # fmt: skip
            while True:
                arguments = (len(names), *names, worker, RECLAIM_BATCH, self.keys.lane_prefix)
                count = self.connections.run(scripts.RECLAIM, arguments)
                reclaimed += count
                if count < RECLAIM_BATCH:
                    break
        self.connections.run(
            scripts.FORGET, (3, self.keys.workers, self.keys.worker(worker), self.keys.inbox(worker), worker)
        )
        return reclaimed


def _flat(fields: Mapping[str, str | int | float]) -> list[str | int | float]:
    return [part for pair in fields.items() for part in pair]
