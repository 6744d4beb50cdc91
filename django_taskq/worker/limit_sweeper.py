"""Heals limits: a place that nothing holds any more is freed, and who was forgotten on a waiting list goes on.

Scripts give places back by themselves. This is for what they cannot know: keys that somebody deleted or restored.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django_taskq.broker.gates import Gates
from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_taskq.broker import Broker

logger = logging.getLogger("django_taskq.worker")

EVERY = 3.0  # seconds


class LimitSweeper:
    """Every worker's maintenance process does it: what is whole stays as it is."""

    def __init__(self, broker: Broker, queues: Collection[str]) -> None:
        self._gates, self._queues = Gates(broker.connections, broker.keys), list(queues)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.wait(EVERY):
            try:
                self.run_once()
            except TaskqError as error:
                logger.debug("limits: %s", error)

    def run_once(self) -> None:
        """One sweep."""
        swept = self._gates.sweep(self._queues)
        if swept.freed or swept.went_on:
            logger.warning(
                "limits: %d places were held by tasks that are nowhere, %d parked tasks go on",
                swept.freed,
                swept.went_on,
            )
