"""What happened in each minute of the last 48 hours, as the settling scripts counted it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from django_taskq.core.histogram import percentile

if TYPE_CHECKING:
    from django_taskq.broker.broker import Broker

KEPT_SECONDS = 176_400  # as in broker/lua/lib/minute.lua
ALL, TASK, ACCEPTED, DEPTH = "all", "t:", "e:", "d:"
_STATES = {
    "s": "succeeded", "f": "failed", "r": "retried", "c": "cancelled", "e": "expired", "d": "discarded",
}  # fmt: skip
_unpack = msgspec.msgpack.Decoder(dict[str, int]).decode


@dataclass(slots=True)
class Activity:
    """Counts of a span of time. `waits` and `runs`: histograms of all attempts (core/histogram.py)."""

    enqueued: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    cancelled: int = 0
    expired: int = 0
    discarded: int = 0
    waits: dict[int, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """How many tasks ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled + self.expired + self.discarded

    @property
    def failure_ratio(self) -> float | None:
        """Failed among those that succeeded or failed; None when none did."""
        decided = self.succeeded + self.failed
        return self.failed / decided if decided else None

    def wait(self, q: float) -> float | None:
        """Seconds that a share `q` of the attempts waited at most."""
        return percentile(self.waits, q)

    def run(self, q: float) -> float | None:
        """Seconds that a share `q` of the attempts took at most."""
        return percentile(self.runs, q)

    def add(self, other: Activity) -> None:
        """Adds another one's counts to these."""
        # Spelled out: a page adds thousands of them.
        self.enqueued += other.enqueued
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.retried += other.retried
        self.cancelled += other.cancelled
        self.expired += other.expired
        self.discarded += other.discarded
        for mine, theirs in ((self.waits, other.waits), (self.runs, other.runs)):
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count


class Depth(NamedTuple):
    """A queue's length when the maintenance process looked, once in that minute."""

    ready: int
    scheduled: int


@dataclass(slots=True)
class Minute:
    """One minute, counted from the epoch on Redis' clock. A task named '' stands for those beyond the 500th."""

    minute: int
    total: Activity = field(default_factory=Activity)
    queues: dict[str, Activity] = field(default_factory=dict)
    tasks: dict[tuple[str, str], Activity] = field(default_factory=dict)  # (queue, task)
    depths: dict[str, Depth] = field(default_factory=dict)


class Statistics:
    """Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._connections, self._prefix = broker.connections, broker.keys.stats_prefix

    def minutes(self, first: int, last: int) -> list[Minute]:
        """Everything about the minutes from `first` to `last`, both included; one round trip."""
        numbers = range(first, last + 1)
        replies = self._connections.pipeline([("HGETALL", f"{self._prefix}{minute}") for minute in numbers])
        return [_minute(minute, _pairs(reply)) for minute, reply in zip(numbers, replies, strict=True)]

    def totals(self, first: int, last: int, queues: Iterable[str] = ()) -> list[Minute]:
        """As `minutes`, but only the totals, and what these queues accepted and held: cheap enough for a day."""
        numbers = range(first, last + 1)
        names = [ALL, *(kind + queue for queue in queues for kind in (ACCEPTED, DEPTH))]
        replies = self._connections.pipeline([("HMGET", f"{self._prefix}{minute}", *names) for minute in numbers])
        found = []
        for minute, values in zip(numbers, replies, strict=True):
            pairs = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            found.append(_minute(minute, pairs))
        return found

    def sample(self, minute: int, depths: Mapping[str, Depth]) -> None:
        """Notes how long queues are in this minute."""
        key = f"{self._prefix}{minute}"
        values = [
            part for queue, depth in depths.items() for part in (DEPTH + queue, f"{depth.ready} {depth.scheduled}")
        ]
        if values:
            self._connections.pipeline([("HSET", key, *values), ("EXPIRE", key, str(KEPT_SECONDS))])


def _pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _minute(number: int, fields: Mapping[str, bytes]) -> Minute:
    minute = Minute(number)
    for name, value in fields.items():
        if name == ALL:
            minute.total.add(_activity(value))
        elif name.startswith(TASK):
            queue, _, task = name.removeprefix(TASK).partition(":")
            activity = minute.tasks[queue, task] = _activity(value)
            minute.queues.setdefault(queue, Activity()).add(activity)
        elif name.startswith(ACCEPTED):
            accepted = Activity(enqueued=int(value))
            minute.queues.setdefault(name.removeprefix(ACCEPTED), Activity()).add(accepted)
            minute.total.add(accepted)
        elif name.startswith(DEPTH):
            ready, _, scheduled = value.partition(b" ")
            minute.depths[name.removeprefix(DEPTH)] = Depth(int(ready), int(scheduled))
    return minute


def _activity(packed: bytes) -> Activity:
    activity = Activity()
    for name, count in _unpack(packed).items():
        if name in _STATES:
            setattr(activity, _STATES[name], count)
        else:
            histogram: Any = activity.waits if name[0] == "w" else activity.runs
            histogram[int(name[1:])] = count
    return activity
