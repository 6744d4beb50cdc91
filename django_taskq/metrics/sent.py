"""What this process has sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from django_taskq.metrics import families
from django_taskq.worker.tally import Series, add_sent


class Sent:
    """A collector, and the producer's counter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Series, int] = {}

    def count(self, task: str, queue: str) -> None:
        """One more; from any thread."""
        with self._lock:
            add_sent(self._counts, (task, queue), 1)

    def describe(self) -> Iterable[Metric]:
        """Its one family."""
        return [families.SENT.new()]

    def collect(self) -> Iterator[Metric]:
        """Since this process started."""
        with self._lock:
            counts = dict(self._counts)
        family = families.SENT.new()
        for series, count in counts.items():
            family.add_metric(series, count)
        yield family
