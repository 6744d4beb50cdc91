"""A task process' side of the pipe to its supervisor."""

from __future__ import annotations

import select
import threading
from multiprocessing.connection import Connection

from django_taskq.worker.tally import Increments


class Reporter:
    """Several threads tell; what they write must not mix."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self._unsent = Increments()

    def tell(self, *words: object) -> None:
        """A word and what belongs to it. A supervisor that is gone is found out by whoever listens to it."""
        with self._lock:
            try:
                self._pipe.send(words)
            except (OSError, ValueError):
                return

    def count(self, increments: Increments, *, last: bool = False) -> None:
        """Increments; what a busy supervisor has no room for waits for the next ones, unless they are the last."""
        self._unsent.merge(increments)
        everything, self._unsent = self._unsent, Increments()
        for part in everything.parts():
            if last or self._has_room():
                self.tell("counted", part)
            else:
                self._unsent.merge(part)

    def _has_room(self) -> bool:
        poll = select.poll()
        try:
            poll.register(self._pipe.fileno(), select.POLLOUT)
        except (OSError, ValueError):
            return True  # it is closed: telling is in vain
        return bool(poll.poll(0))
