"""What a process has settled, sent and handed on: increments that its supervisor adds up and serves as metrics.

Kept only where somebody serves them (`--metrics-port`). Series are bounded: tasks beyond the 500th of a process are
counted together as `other`, messages that are no known task's as `unknown`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from django_taskq.broker import scripts
from django_taskq.broker.delivery import Settlement

# Upper bounds in seconds. The objective of deploy/prometheus (1 s) is one of them.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
MOST_TASKS = 500
OTHER = "other"
_UNKNOWN = ("unknown", None, None)  # what was spent on a message that nothing here could run
_PART = 50  # series in one message to the supervisor: it fits the pipe, so writing it does not block

Series = tuple[str, str]  # task, queue


class Histogram:
    """How often each bucket of BOUNDS was met (the last one is beyond them), and the sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def merge(self, other: Histogram) -> None:
        """Another one's observations as well."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


@dataclass(slots=True)
class Ends:
    """How deliveries of one task in one queue ended; histograms of those whose attempt began."""

    states: Counter[str] = field(default_factory=Counter)
    waits: Histogram = field(default_factory=Histogram)
    runs: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Increments:
    """What is counted. Plain values: it travels through a pipe."""

    ended: dict[Series, Ends] = field(default_factory=dict)
    sent: dict[Series, int] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)  # by reason
    reclaimed: int = 0

    def merge(self, other: Increments) -> None:
        """Adds another one's, within the bounds."""
        for series, theirs in other.ended.items():
            mine = _at(self.ended, series)
            mine.states.update(theirs.states)
            mine.waits.merge(theirs.waits)
            mine.runs.merge(theirs.runs)
        for series, count in other.sent.items():
            add_sent(self.sent, series, count)
        self.dead.update(other.dead)
        self.reclaimed += other.reclaimed

    def parts(self) -> Iterator[Increments]:
        """The same in pieces, each small enough for one message."""
        if self.dead or self.reclaimed:
            yield Increments(dead=self.dead, reclaimed=self.reclaimed)
        ended, sent = iter(self.ended.items()), iter(self.sent.items())
        while part := dict(islice(ended, _PART)):
            yield Increments(ended=part)
        while counts := dict(islice(sent, _PART)):
            yield Increments(sent=counts)


class Tally:
    """Counts for one process; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Increments()

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Settlements that stand."""
        with self._lock:
            _add_ends(self._now, settlements)

    def sent(self, task: str, queue: str) -> None:
        """A call that the broker accepted."""
        with self._lock:
            add_sent(self._now.sent, (task, queue), 1)

    def reclaimed(self, count: int) -> None:
        """Deliveries of dead workers that went to others."""
        with self._lock:
            self._now.reclaimed += count

    def take(self) -> Increments:
        """What has been counted since the last time."""
        with self._lock:
            taken, self._now = self._now, Increments()
        return taken


def add_sent(counts: dict[Series, int], series: Series, count: int) -> None:
    """Adds to a count within the bounds."""
    series = _bounded(counts, series)
    counts[series] = counts.get(series, 0) + count


def _add_ends(now: Increments, settlements: Iterable[Settlement]) -> None:
    """Runs for every task of a metered worker: a series is looked up only where it is another than the last one's."""
    last, ends = None, Ends()
    for settlement in settlements:
        script, delivery = settlement.script, settlement.delivery
        if script is scripts.COMPLETE:
            state = settlement.arguments[1]
        elif script is scripts.BURY:
            state = "failed"
            now.dead[settlement.arguments[1]] += 1
        elif script is scripts.RETRY and delivery.spent is not None:
            state = "retried"
        else:  # handed on; or put off, for a worker that knows the task
            continue
        task, wait, ran = delivery.spent or _UNKNOWN
        series = (task, delivery.lane.queue)
        if series != last:
            ends, last = _at(now.ended, series), series
        ends.states[state] += 1
        if wait is not None and ran is not None:
            waits, runs = ends.waits, ends.runs
            waits.counts[bisect_left(BOUNDS, wait)] += 1
            waits.total += wait
            runs.counts[bisect_left(BOUNDS, ran)] += 1
            runs.total += ran


def _at(table: dict[Series, Ends], series: Series) -> Ends:
    found = table.get(series)
    if found is None:
        found = table.setdefault(_bounded(table, series), Ends())
    return found


def _bounded(table: dict[Series, Ends] | dict[Series, int], series: Series) -> Series:
    """The series itself, or the one that stands for all beyond the bound."""
    if series in table or len(table) < MOST_TASKS:
        return series
    return (OTHER, series[1])
