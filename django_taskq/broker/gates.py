"""Limits and paused tasks, as operators and maintenance see them. What they do at the claim is in lua/lib/gates.lua."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.broker import scripts

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

CHUNK = 100  # limits a script call
PARKED = 500  # parked tasks a script call looks at, as in sweep.lua
PAUSED_TASK = "task:"  # what a member of the set of what is paused begins with, where it is no queue
MOST_CHUNKS = 20  # of a sweep; the next goes on from there


class Swept(NamedTuple):
    """What a sweep healed."""

    freed: int = 0  # places of tasks that are nowhere
    went_on: int = 0  # parked messages that a limit had room for


class Gates:
    """Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections, self._keys = connections, keys
        self._cursor: bytes | int = 0
        self._positions: dict[str, int] = {}  # queue -> how many of its parked tasks were looked at

    def pause(self, task: str) -> bool:
        """No worker is given calls of that task any more; False when it was paused already."""
        return bool(self._connections.execute("SADD", self._keys.paused, PAUSED_TASK + task))

    def resume(self, task: str) -> bool:
        """Undoes `pause`, 500 messages a round trip; False when it was not paused."""
        was = False
        while True:
            names = (2, self._keys.index, self._keys.paused)
            paused, count = self._connections.run(scripts.RESUME_TASK, (*names, task, PARKED))
            was = was or bool(paused)
            if count < PARKED:
                return was

    def paused(self) -> list[str]:
        """The names of paused tasks."""
        names = (name.decode() for name in self._connections.execute("SMEMBERS", self._keys.paused))
        return sorted(name.removeprefix(PAUSED_TASK) for name in names if name.startswith(PAUSED_TASK))

    def sweep(self, queues: Sequence[str]) -> Swept:
        """Heals what somebody broke by changing keys: bounded, the next sweep goes on where this one ended."""
        freed = went_on = 0
        for queue in queues:
            self._sweep_parked(queue)
        for limits in self._limits():
            reply = self._sweep("", 0, limits)
            freed, went_on = freed + reply[0], went_on + reply[1]
        return Swept(freed, went_on)

    def _limits(self) -> Iterator[list[bytes]]:
        for _ in range(MOST_CHUNKS):
            self._cursor, limits = self._connections.execute("SSCAN", self._keys.limits, self._cursor, "COUNT", CHUNK)
            if limits:
                yield limits
            if int(self._cursor) == 0:
                return

    def _sweep_parked(self, queue: str) -> None:
        position = self._positions.get(queue, 0)
        looked = self._sweep(queue, position, [])[2]
        self._positions[queue] = position + looked if looked == PARKED else 0

    def _sweep(self, queue: str, position: int, limits: Sequence[bytes]) -> list[int]:
        reply: list[int] = self._connections.run(scripts.SWEEP, (1, self._keys.index, queue, position, *limits))
        return reply
