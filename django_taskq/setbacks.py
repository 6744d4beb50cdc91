"""What keeps a sweep from its work: said once, until it is something else, and followed by longer and longer pauses."""

from __future__ import annotations

import logging


class Setbacks:
    """Those in a row of one sweep, which the log calls `name`. Pauses grow from `first` to `last` seconds."""

    def __init__(self, logger: logging.Logger, name: str, *, first: float, last: float) -> None:
        self._logger, self._name, self._first, self._last = logger, name, first, last
        self._count = 0
        self._said: type[Exception] | None = None

    def met(self, error: Exception, meaning: str = "") -> float:
        """Another one; returns the seconds until the next attempt. `meaning`: of an error that is no fault of our own.

        A fault of our own is told with its traceback, at the 1st, 2nd, 4th, 8th time.
        """
        self._count += 1
        if not meaning:
            if self._count & (self._count - 1) == 0:
                self._logger.error("%s: attempt %d failed, trying again", self._name, self._count, exc_info=error)
        elif type(error) is not self._said:
            self._said = type(error)
            self._logger.warning("%s: %s, trying again: %s", self._name, meaning, error)
        return min(self._last, self._first * 2.0 ** min(self._count - 1, 10))

    def over(self) -> None:
        """An attempt has succeeded."""
        if self._count:
            self._logger.info("%s: it works again after %d failed attempts", self._name, self._count)
            self._count, self._said = 0, None
