"""What a process has settled, sent and handed on: increments that its supervisor adds up and serves as metrics.

Kept only where somebody serves them (`--metrics-port`). Series are bounded: tasks beyond the 500th of a process are
counted together as `other`, messages that are no known task's as `unknown`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from django_taskq.broker import scripts
from django_taskq.broker.delivery import Settlement, Spent

# Upper bounds in seconds. The objective of deploy/prometheus (1 s) is one of them.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
MOST_TASKS = 500
OTHER = "other"
_UNKNOWN: Spent = ("unknown", None, None)  # what was spent on a message that nothing here could run
_FEW = 8  # fewer are counted faster one by one
_PART = 50  # series in one message to the supervisor: it fits the pipe, so writing it does not block

Series = tuple[str, str]  # task, queue


class Histogram:
    """How often each bucket of BOUNDS was met (the last one is beyond them), and the sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, span: float) -> None:
        """One, in seconds."""
        self.counts[bisect_left(BOUNDS, span)] += 1
        self.total += span

    def observe_many(self, spans: Sequence[float]) -> None:
        """They are sorted, so that each bucket is found once, however many fall into it."""
        spans = sorted(spans)
        counts, begin, last = self.counts, 0, bisect_left(BOUNDS, spans[-1])
        for bucket in range(bisect_left(BOUNDS, spans[0]), last):
            end = bisect_right(spans, BOUNDS[bucket], begin)
            counts[bucket] += end - begin
            begin = end
        counts[last] += len(spans) - begin
        self.total += sum(spans)

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

    def add(self, states: Sequence[str], spent: Sequence[Spent]) -> None:
        """How so many deliveries ended, and what each had spent."""
        if len(spent) < _FEW:
            for state, (_, wait, ran) in zip(states, spent, strict=True):
                self.states[state] += 1
                if wait is not None and ran is not None:
                    self.waits.observe(wait)
                    self.runs.observe(ran)
            return
        self.states.update(states)
        if begun := [each for each in spent if each[2] is not None]:
            _, waits, runs = zip(*begun, strict=True)
            self.waits.observe_many(waits)
            self.runs.observe_many(runs)


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

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Settlements that stand: of one script and one queue, as they were sent."""
        if settlements:
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


def _add_ends(now: Increments, settlements: Sequence[Settlement]) -> None:
    """Runs for every task of a metered worker, so most of it is done by what loops in C: each task's share at once."""
    script, queue = settlements[0].script, settlements[0].delivery.lane.queue
    if script is scripts.COMPLETE:
        states = [each.arguments[1] for each in settlements]
    elif script is scripts.BURY:
        states = ["failed"] * len(settlements)
        now.dead.update([each.arguments[1] for each in settlements])
    elif script is scripts.RETRY:  # without what is put off, for a worker that knows the task
        settlements = [each for each in settlements if each.delivery.spent is not None]
        states = ["retried"] * len(settlements)
    else:  # handed on
        return
    spent = [each.delivery.spent or _UNKNOWN for each in settlements]
    if len({each[0] for each in spent}) == 1:
        _at(now.ended, (spent[0][0], queue)).add(states, spent)
        return
    shares: dict[str, tuple[list[str], list[Spent]]] = {}
    for state, each in zip(states, spent, strict=True):
        share = shares.get(each[0]) or shares.setdefault(each[0], ([], []))
        share[0].append(state)
        share[1].append(each)
    for task, (its_states, its_spent) in shares.items():
        _at(now.ended, (task, queue)).add(its_states, its_spent)


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
