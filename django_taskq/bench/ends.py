"""How the tasks of a load test ended: read from the outcome stream as the recorder reads it, every single end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django_taskq.core.states import State

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.core.outcome import Outcome

BATCH = 1_000


class Ends:
    """Counts the ends of the tasks it is told of. Outcomes linger for 15 s at least: `read` more often than that."""

    def __init__(self, broker: Broker) -> None:
        """Raises BrokerUnavailable."""
        self._broker = broker
        newest = broker.connections.execute("XREVRANGE", broker.keys.outcomes, "+", "-", "COUNT", 1)
        self._cursor = newest[0][0].decode() if newest else "0-0"
        self.counts: dict[bytes, int] = {}  # id -> how often it has ended
        self.started: dict[bytes, float | None] = {}  # those that are timed: epoch seconds on Redis' clock
        self.ended = 0  # tasks that have ended, each counted once
        self.recorded = 0  # of those, how many become rows
        self.last = 0.0  # when the last one ended, in epoch seconds on Redis' clock
        self.unsuccessful: Counter[str] = Counter()  # what became of those that did not succeed

    def expect(self, ids: Iterable[bytes], *, timed: bool = False) -> None:
        """Ids of tasks that were sent."""
        for id in ids:
            self.counts.setdefault(id, 0)
            if timed:
                self.started.setdefault(id, None)

    def read(self) -> int:
        """Reads what there is; how many tasks have ended so far. Raises BrokerUnavailable."""
        while entries := self._broker.read_outcomes(self._cursor, BATCH):
            self._cursor = entries[-1][0]
            for entry, outcome in entries:
                if outcome is not None and outcome.id in self.counts:
                    self._count(int(entry.partition("-")[0]) / 1000, outcome)
            if len(entries) < BATCH:
                break
        return self.ended

    def _count(self, at: float, outcome: Outcome) -> None:
        self.counts[outcome.id] += 1
        if self.counts[outcome.id] > 1:
            return
        self.ended, self.last = self.ended + 1, at
        self.recorded += outcome.recorded
        if outcome.id in self.started:
            self.started[outcome.id] = outcome.started
        if outcome.status != State.SUCCEEDED:
            self.unsuccessful[f"{outcome.status} ({outcome.reason})" if outcome.reason else outcome.status] += 1

    def missing(self) -> list[bytes]:
        """Ids of tasks that have not ended."""
        return [id for id, count in self.counts.items() if not count]

    def repeated(self) -> int:
        """How many tasks have ended more than once."""
        return sum(count > 1 for count in self.counts.values())
