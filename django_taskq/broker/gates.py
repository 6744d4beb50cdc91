"""Limits and paused tasks, as operators and maintenance see them. What they do at the claim is in lua/lib/gates.lua."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.broker import scripts
from django_taskq.broker.clock import epoch_seconds

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


class LimitState(NamedTuple):
    """A concurrency limit, or a paused task (`paused:<task>`), at one moment."""

    name: str
    holders: int
    waiting: int


class BreakerState(NamedTuple):
    """A circuit breaker at one moment."""

    name: str
    state: str  # closed, open, half open
    until: float | None  # epoch seconds, when it may be tried again
    probing: bool  # a call is trying now
    failures: int  # that a closed one remembers


def breaker_commands(keys: Keys, names: Sequence[str]) -> list[tuple[str, ...]]:
    """What asks for these breakers; `breaker_state` reads the replies."""
    return [("HMGET", keys.breaker_prefix + name, "u", "p", "f") for name in names]


def breaker_state(name: str, reply: Sequence[bytes | None], now: float) -> BreakerState:
    """`now`: epoch seconds on Redis' clock."""
    until, probe, failed = reply
    ends = int(until) / 1000 if until else None
    state = "closed" if ends is None else "open" if ends > now else "half open"
    return BreakerState(name, state, ends, probe is not None, len((failed or b"").split()))


def paused_tasks(members: Iterable[bytes]) -> list[str]:
    """Those among what is paused."""
    names = (member.decode() for member in members)
    return sorted(name.removeprefix(PAUSED_TASK) for name in names if name.startswith(PAUSED_TASK))


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
        return paused_tasks(self._connections.execute("SMEMBERS", self._keys.paused))

    def ask_breaker(self, verb: str, name: str, token: bytes | str, failures: int, within: int, cooldown: int) -> float:
        """What breaker.lua does; seconds to wait, 0 to go on. Spans are ms."""
        names = (3, self._keys.index, self._keys.breaker_prefix + name, self._keys.breakers)
        reply = self._connections.run(scripts.BREAKER, (*names, verb, name, token, failures, within, cooldown))
        return 0.0 if reply[0] else reply[1] / 1000

    def close_breaker(self, name: str) -> None:
        """Lets all calls pass again."""
        self.ask_breaker("close", name, "", 1, 1, 1)

    def breakers(self) -> list[BreakerState]:
        """Those that have failed lately, by name; two round trips."""
        names = sorted(name.decode() for name in self._connections.execute("SMEMBERS", self._keys.breakers))
        if not names:
            return []
        *replies, time = self._connections.pipeline([*breaker_commands(self._keys, names), ("TIME",)])
        now = epoch_seconds(time)
        return [breaker_state(name, reply, now) for name, reply in zip(names, replies, strict=True)]

    def limits(self, most: int) -> list[LimitState]:
        """Concurrency limits that hold somebody up or have holders, about `most` of them, the longest line first."""
        names: set[bytes] = set()
        cursor: bytes | int = 0
        while len(names) < most:
            cursor, found = self._connections.execute("SSCAN", self._keys.limits, cursor, "COUNT", CHUNK)
            names.update(found)
            if int(cursor) == 0:
                break
        texts = sorted(name.decode() for name in names)
        commands = [part for name in texts for part in self._look_at(name)]
        counts = self._connections.pipeline(commands) if commands else []
        states = [LimitState(*state) for state in zip(texts, counts[::2], counts[1::2], strict=True)]
        return sorted(states, key=lambda state: (-state.waiting, state.name))[:most]

    def _look_at(self, limit: str) -> tuple[tuple[str, str], tuple[str, str]]:
        return ("HLEN", self._keys.limit(limit)), ("ZCARD", self._keys.waiting(limit))

    def next_starts(self, limits: Sequence[str]) -> dict[str, float]:
        """When the next moment of these rate limits is free, epoch seconds; those that nobody has used are left out."""
        commands = [("HMGET", self._keys.rate_prefix + limit, "n", "s") for limit in limits]
        replies = self._connections.pipeline(commands) if commands else []
        return {
            limit: (int(following) + int(shift or 0)) / 1e6
            for limit, (following, shift) in zip(limits, replies, strict=True)
            if following is not None
        }

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
