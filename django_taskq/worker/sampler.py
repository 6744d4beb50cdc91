"""Notes once a minute how long each queue is, for the charts."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django_taskq.broker.queues import queue_states
from django_taskq.broker.statistics import Depth, Statistics
from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_taskq.broker import Broker

logger = logging.getLogger("django_taskq.worker")

LATE = 0.5  # seconds into the minute


class Sampler:
    """Every worker's maintenance process does it: the last one to look in a minute is as right as the first."""

    def __init__(self, broker: Broker, queues: Collection[str]) -> None:
        self._broker, self._queues = broker, queues
        self._statistics = Statistics(broker)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                pause = self.run_once()
            except TaskqError as error:
                logger.debug("sampler: %s", error)
                pause = 60.0

    def run_once(self) -> float:
        """Notes this minute's depths. Returns the seconds until the next minute."""
        now = self._broker.time()
        states = queue_states(self._broker.connections, self._broker.keys, self._queues)
        self._statistics.sample(int(now // 60), {state.name: Depth(state.ready, state.scheduled) for state in states})
        return 60.0 - now % 60.0 + LATE
