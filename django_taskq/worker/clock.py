"""Redis' clock, seen from this process: its own monotonic clock plus an offset that each claim renews."""

from __future__ import annotations

import time


class Clock:
    """Wall time that neither this machine's clock nor its steps can bend. Epoch seconds."""

    def __init__(self) -> None:
        self.offset = time.time() - time.monotonic()

    def set(self, redis_time: float, sent: float, received: float) -> None:
        """Takes over a time that Redis told between two moments of the monotonic clock."""
        self.offset = redis_time - (sent + received) / 2

    def now(self) -> float:
        """Now on Redis' clock."""
        return time.monotonic() + self.offset

    def monotonic(self, moment: float) -> float:
        """A moment on Redis' clock on the monotonic clock."""
        return moment - self.offset

    def at(self, monotonic: float) -> float:
        """A moment of the monotonic clock on Redis' clock."""
        return monotonic + self.offset
