"""A task process in the register of workers. Its supervisor beats for it and takes it out; an orphan does so itself."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import django

import django_taskq
from django_taskq.broker.health import DEFAULT_MAX_OUTCOMES
from django_taskq.broker.workers import Beat
from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from django_taskq.broker.workers import Workers
    from django_taskq.worker.notes import Notes
    from django_taskq.worker.options import WorkerOptions

logger = logging.getLogger("django_taskq.worker")

EVERY = 1.0  # seconds between beats


class RegisterEntry:
    """Of one worker."""

    def __init__(self, workers: Workers, worker: str, options: WorkerOptions, notes: Notes) -> None:
        self._workers, self._worker, self._options, self._notes = workers, worker, options, notes
        self._beat_at = 0.0  # monotonic seconds

    def enter(self) -> None:
        """From now on it may claim. Raises TaskqError."""
        self._workers.register(self._worker, _described(self._options))

    def beat(self) -> Sequence[str]:
        """Beats, once a second however often it is called. Returns what was asked of this worker meanwhile."""
        if time.monotonic() < self._beat_at:
            return ()
        self._beat_at = time.monotonic() + EVERY
        running = b"\n".join(note.location for note in self._notes.read())
        try:
            replies = self._workers.beat([Beat(self._worker, {"running": running.decode("utf-8", "replace")})])
        except TaskqError as error:
            logger.debug("worker %s cannot beat: %s", self._worker, error, extra={"worker": self._worker})
            return ()
        return replies[self._worker] or ()

    def leave(self) -> None:
        """It claims nothing more, and what is left of it goes to others: at once, or when a reclaimer finds it."""
        try:
            self._workers.declare_dead(self._worker, None, [])
            self._workers.reclaim(self._worker)
        except TaskqError as error:
            logger.warning(
                "worker %s ends without leaving the register: %s", self._worker, error, extra={"worker": self._worker}
            )


def _described(options: WorkerOptions) -> dict[str, str | int | float]:
    """What the register says about a worker."""
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "supervisor": os.getppid(),
        "version": django_taskq.__version__, "python": platform.python_version(),
        "django": django.get_version(), "queues": ",".join(options.queues), "threads": options.threads,
        "weights": ",".join(map(str, options.weights)), "max_outcomes": options.max_outcomes or DEFAULT_MAX_OUTCOMES,
        "async": options.async_concurrency, "started": int(time.time()), "running": "",
    }  # fmt: skip
