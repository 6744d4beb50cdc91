"""The recorder: moves outcomes from Redis into the database, one process at a time.

Read from the cursor, commit, move the cursor. A crash in between means that the same outcomes are written again, which
changes nothing, so no outcome is lost and none counts twice.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid

from django.db import router

from django_taskq.broker import Broker
from django_taskq.bulk import DatabaseAway, Writer
from django_taskq.conf import get_settings
from django_taskq.core.fields import pack_fields
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.exceptions import TaskqError
from django_taskq.models import TaskResult
from django_taskq.setbacks import Setbacks

logger = logging.getLogger(__name__)

LEASE_MS = 10_000
BATCH = 1000  # outcomes a transaction
BATCH_BYTES = 8 << 20  # past this many bytes of payload the next batch is smaller
TRIMS = 8  # calls a step: trimming keeps up with a full batch and never holds up the next one for long
TRIM_EVERY = 1.0  # seconds, when there was little to trim
BUSY_PAUSE, IDLE_PAUSE = 0.1, 1.0  # seconds between looks: just after there was something, and after a quiet while
STANDBY_PAUSE = 2.0  # seconds, while another recorder holds the lease
FIRST_BACKOFF, LAST_BACKOFF = 0.25, 15.0  # seconds, while the database or Redis is away

_NAMELESS = uuid.UUID("5b1b9b1e-6f0c-5d57-9d3c-0d7c3f1f6a11")  # namespace of ids for outcomes that name none


class Recorder:
    """Records outcomes while it holds the lease. Any number may run; the others wait for its place."""

    def __init__(self, broker: Broker, owner: str = "") -> None:
        self.broker = broker
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.holding = False  # whether the last look found this recorder holding the lease
        self._writer = Writer(router.db_for_write(TaskResult))
        self._size = 100  # outcomes of the next batch
        self._trim_at = 0.0  # monotonic seconds
        self._setbacks = Setbacks(logger, "recorder", first=FIRST_BACKOFF, last=LAST_BACKOFF)

    def run(self, stop: threading.Event) -> None:
        """Records until `stop` is set. While Redis or the database is away it tries again, for ever."""
        pause = BUSY_PAUSE
        while not stop.is_set():
            try:
                recorded = self.run_once()
            except Exception as error:  # noqa: BLE001 - whatever it is, outcomes must go on being recorded
                pause = self._failed(error)
            else:
                self._setbacks.over()
                pause = self._pause(recorded, pause)
            if pause:
                stop.wait(pause)
        self.close()

    def run_once(self) -> int:
        """Records one batch and trims what was recorded before; how many outcomes that were.

        0 also while another recorder holds the lease. Raises DatabaseAway, or what the broker raises.
        """
        cursor = self.broker.recorder_lease(self.owner, LEASE_MS)
        self.holding = cursor is not None
        if cursor is None:
            return 0
        entries = self.broker.read_outcomes(cursor, self._size)
        if entries:
            self._writer.write([(entry, outcome or self._malformed(entry)) for entry, outcome in entries])
            if not self.broker.advance(self.owner, cursor, entries[-1][0], len(entries)):
                self.holding = False
                return 0
            self._resize(entries)
        self._trim()
        return len(entries)

    def _resize(self, entries: list[tuple[str, Outcome | None]]) -> None:
        """Grows after a full batch, as far as the payloads allow: memory bounds the batch, not only the count."""
        size = sum(_weight(outcome) for _, outcome in entries if outcome)
        if size > BATCH_BYTES:
            self._size = max(1, len(entries) * BATCH_BYTES // (2 * size))
        elif len(entries) >= self._size:
            self._size = min(BATCH, self._size * 2)

    def _trim(self) -> None:
        now = time.monotonic()
        if now < self._trim_at:
            return
        window = int(get_settings().outcome_window * 1000)
        for _ in range(TRIMS):
            if not self.broker.trim(self.owner, window):
                self._trim_at = now + TRIM_EVERY
                return

    def _pause(self, recorded: int, before: float) -> float:
        """Seconds until the next look: none while batches come full, then longer and longer."""
        if not self.holding:
            return STANDBY_PAUSE
        if recorded:
            return 0.0 if recorded >= self._size // 2 else BUSY_PAUSE
        return min(IDLE_PAUSE, max(BUSY_PAUSE, before * 1.3))

    def _failed(self, error: Exception) -> float:
        """Seconds until the next attempt.

        Meanwhile the lease runs out: a recorder that does reach the database may take over. The next batch is smaller,
        in case it was its size that the database could not take in time.
        """
        if isinstance(error, DatabaseAway):
            self._writer.disconnect()
            self._size = max(1, self._size // 2)
        away = isinstance(error, DatabaseAway | TaskqError)
        return self._setbacks.met(error, "outcomes wait in Redis until they are recorded" if away else "")

    def _malformed(self, entry: str) -> Outcome:
        """A dead letter for an outcome that cannot be read: how the task ended is not known, and a person must look."""
        fields = self.broker.read_raw_outcome(entry)
        id = fields[1] if len(fields) > 1 and len(fields[1]) == 16 else uuid.uuid5(_NAMELESS, entry).bytes
        logger.error("recorder: entry %s of the outcome stream cannot be read; it is kept as a dead letter", entry)
        return Outcome(
            id=id,
            run=1,
            status=State.FAILED.value,
            recorded=False,
            reason="malformed",
            error_message=f"Entry {entry} of the outcome stream cannot be read: the task ended, and how is not known.",
            raw=pack_fields(fields),
        )

    def close(self) -> None:
        """Gives the lease up, so that another recorder goes on at once, and the connection back."""
        self._writer.disconnect()
        if self.holding:
            try:
                self.broker.recorder_lease(self.owner, 1)
            except TaskqError as error:
                logger.debug("recorder: the lease runs out by itself: %s", error)


def _weight(outcome: Outcome) -> int:
    """Bytes that count, more or less."""
    texts = (outcome.args, outcome.kwargs, outcome.result or b"", outcome.raw, outcome.traceback, outcome.log)
    return sum(map(len, texts))
