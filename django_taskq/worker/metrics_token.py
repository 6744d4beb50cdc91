"""The bearer token of the metrics port. A file or a callable may hang: only the start of a worker waits for it.

Later on the maintenance process asks, in a thread that nobody waits for, and the supervisor is told.
"""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue

from django_taskq.conf import Secret, reveal

logger = logging.getLogger("django_taskq.worker")

EVERY = 60.0  # seconds


def read_token(secret: Secret) -> bytes:
    """The token as it is sent; ValueError where there is none."""
    try:
        token = reveal(secret)
    except Exception as error:
        raise ValueError(f"TASKQ['METRICS_TOKEN'] cannot be read: {error}") from error
    if not isinstance(token, str) or not token:
        raise ValueError("TASKQ['METRICS_TOKEN'] is empty. Leave it out, or give a token")
    return token.encode()


class TokenReader:
    """Asks for the token again and again. `take` from another thread."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._read: SimpleQueue[bytes] = SimpleQueue()

    def start(self) -> None:
        """In a thread that ends with the process."""
        threading.Thread(target=self._run, name="taskq-metrics-token", daemon=True).start()

    def take(self) -> bytes | None:
        """What has been read since the last time; None where nothing was."""
        try:
            return self._read.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        while True:
            time.sleep(EVERY)
            try:
                self._read.put(read_token(self._secret))
            except ValueError as error:
                logger.error("metrics: %s; the last one still holds", error)
