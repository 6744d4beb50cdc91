"""Finds dead workers and hands on what they held.

A worker is dead only when its beat counter did not change for the limit, on this process' own monotonic clock, with no
failed call to Redis and no long pause of this process in between; the script compares the counter again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from django_taskq.broker.workers import Workers

logger = logging.getLogger("django_taskq.worker")

LIMIT = 15.0  # seconds without a beat
EVERY = 1.0  # seconds between looks
LONGEST_GAP = 3.0  # seconds between looks beyond which this process was itself asleep, and what it saw counts no more


class Reclaimer:
    """Any number may run at once."""

    def __init__(
        self, workers: Workers, limit: float = LIMIT, *, counter: Callable[[int], object] | None = None
    ) -> None:
        self._workers, self._limit, self._counter = workers, limit, counter
        self._seen: dict[str, tuple[int, float]] = {}  # worker -> counter, monotonic seconds since it is that
        self._looked = 0.0

    def run(self, stop: threading.Event) -> None:
        """Looks once a second until `stop` is set."""
        away = False
        while not stop.wait(EVERY):
            try:
                self.run_once(time.monotonic())
                away = False
            except TaskqError as error:
                self._seen.clear()
                if not away:
                    logger.warning("reclaimer: nobody is declared dead while Redis is away: %s", error)
                away = True
            except Exception:
                self._seen.clear()
                logger.exception("reclaimer: looking again")

    def run_once(self, now: float) -> int:
        """Looks once; `now` is monotonic seconds. Returns how many deliveries were reclaimed. Raises TaskqError."""
        if now - self._looked > LONGEST_GAP:
            self._seen.clear()
        self._looked = now
        counters = self._workers.counters()
        self._seen = {
            worker: known if (known := self._seen.get(worker)) and known[0] == beats else (beats, now)
            for worker, beats in counters.items()
        }
        reclaimed = 0
        for worker, (beats, since) in self._seen.items():
            if beats < 0 or now - since >= self._limit:
                reclaimed += self._reclaim(worker, beats, now - since)
        return reclaimed

    def _reclaim(self, worker: str, beats: int, silent: float) -> int:
        if beats >= 0:
            if not self._workers.declare_dead(worker, beats):
                return 0
            logger.error(
                "worker %s has not beaten for %.0f s: it counts as dead", worker, silent, extra={"worker": worker}
            )
        count = self._workers.reclaim(worker)
        if count:
            logger.error("worker %s held %d tasks; they go to other workers", worker, count, extra={"worker": worker})
            if self._counter is not None:
                self._counter(count)
        return count
