"""Requests to cancel what this process holds, or what is on its way to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_taskq.worker.held import Held
    from django_taskq.worker.time_limits import TimeLimits

ON_ITS_WAY = 15.0  # seconds that a claim's reply may take, or the comparison that finds what it brought


class Cancellations:
    """Used by the process' main thread alone."""

    def __init__(self, held: Held, limits: TimeLimits) -> None:
        self._held, self._limits = held, limits
        self._asked: dict[bytes, float] = {}  # location -> until when it may still arrive here (monotonic)

    def ask(self, location: bytes) -> None:
        """Somebody wants it cancelled; once or more often."""
        self._asked[location] = time.monotonic() + ON_ITS_WAY

    def check(self) -> None:
        """What runs is interrupted as soon as that is possible, what waits ends as soon as a thread takes it."""
        for location, until in list(self._asked.items()):
            delivery = self._held.get(location)
            if delivery is None:
                done = time.monotonic() >= until
            else:
                delivery.cancelled = True
                done = self._limits.cancel(location)
            if done:
                del self._asked[location]
