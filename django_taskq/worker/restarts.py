"""When a process may take the place of one that died: those that die as soon as they start come ever more slowly."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("django_taskq.worker")

YOUNG = 5.0  # seconds; whoever lives longer has started well
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds


class Restarts:
    """Of one kind of process: one that cannot start must not keep the other kind from it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._start_at = self._counted = 0.0  # monotonic seconds
        self._rounds = 0  # in a row that died young; those that die together are one

    def may_start(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._start_at

    def wait(self, seconds: float) -> None:
        """Nothing starts for so long."""
        self._start_at = time.monotonic() + seconds

    def died(self, started: float) -> None:
        """A process that started at `started` (monotonic seconds) has died. The first time may be bad luck."""
        now = time.monotonic()
        if now - started >= YOUNG:
            self._rounds = 0
        elif started >= self._counted:
            self._rounds, self._counted = self._rounds + 1, now
            if self._rounds > 1:
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self._rounds - 2))
                self.wait(delay)
                logger.error("%s processes die as soon as they start; the next one starts in %.1f s", self._kind, delay)
