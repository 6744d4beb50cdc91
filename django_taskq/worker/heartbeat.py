"""The supervisor's beats for its task processes. A task that hogs the GIL of its process does not look dead."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django_taskq.broker.workers import Beat, Workers
from django_taskq.core.progress import encode_progress
from django_taskq.exceptions import TaskqError
from django_taskq.worker.process_info import is_stopped, rss

if TYPE_CHECKING:
    from django_taskq.worker.children import TaskChild

logger = logging.getLogger("django_taskq.worker")

EVERY = 1.0  # seconds


class Heartbeat:
    """Beats once a second, for the children that are registered and not stopped by a signal."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._at = 0.0
        self._beaten: float | None = None  # monotonic seconds
        self.away = False  # whether Redis did not answer when it was last asked

    def tick(self, children: Iterable[TaskChild]) -> dict[str, list[str] | None]:
        """Worker -> requests for it, or None: it was declared dead. Empty between beats and while Redis is away."""
        if time.monotonic() < self._at:
            return {}
        self._at = time.monotonic() + EVERY
        beats = [
            Beat(child.worker, _fields(child)) for child in children if child.registered and not is_stopped(child.pid)
        ]
        if not beats:
            return {}
        try:
            replies = self._workers.beat(beats)
        except TaskqError as error:
            if not self.away:
                logger.warning("heartbeat: Redis takes no beats of this worker, trying again: %s", error)
            self.away = True
            return {}
        if self.away:
            logger.info("heartbeat: Redis takes beats again")
        self.away = False
        if any(requests is not None for requests in replies.values()):
            self._beaten = time.monotonic()
        if any(replies.values()):
            self._at = 0.0  # the next one says what came of the requests
        return replies

    def beaten_ago(self) -> float | None:
        """Seconds since Redis took a beat; None: it never has."""
        return None if self._beaten is None else time.monotonic() - self._beaten


def _fields(child: TaskChild) -> dict[str, str | int | float]:
    notes = child.notes.read()
    return {
        "running": "\n".join(note.location.decode("utf-8", "replace") for note in notes),
        "since": "\n".join(f"{note.started:.3f}" for note in notes),
        "progress": "\n".join("" if note.progress is None else encode_progress(note.progress) for note in notes),
        "rss": rss(child.pid),
        "settled": child.settled,
        "state": child.state,
    }
