"""What is kept of a task's own log: TASKQ["CAPTURE_LOGS"]."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from django_taskq.context import current_context
from django_taskq.log_bounds import LogBounds
from django_taskq.redaction import redact_text

LONGEST_LINE = 2_000  # characters
LEAST_SHARE = 2_000  # bytes for each call of a batch

_formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
_formatter.converter = time.gmtime


class KeptLog:
    """The last lines that a task has logged. Added to from any thread: an append is one step."""

    def __init__(self, bounds: LogBounds) -> None:
        self._bytes = bounds.bytes
        self._lines: deque[str] = deque(maxlen=bounds.lines)
        self._count = 0
        self._texts: dict[tuple[int, int], str] = {}  # of a batch each call asks for the same

    def share(self, calls: int) -> None:
        """From now on it is kept with so many calls of a batch, and all of them together have the bytes of the setting.

        Each has 2,000 at least, or what the setting allows.
        """
        self._bytes = min(self._bytes, max(LEAST_SHARE, self._bytes // calls))

    def add(self, record: logging.LogRecord) -> None:
        """One record, which may be several lines."""
        try:
            text = _formatter.format(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit, or whose str() raises; logging reports that
            text = f"<a record of {record.name} that cannot be formatted>"
        lines = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..." for line in text.splitlines()]
        self._count += len(lines)
        self._lines.extend(lines)

    def text(self, most: int | None = None) -> str:
        """What is kept, at most so many bytes (as the setting says), as text that can be stored; secrets redacted."""
        bound, count = self._bytes if most is None else min(most, self._bytes), self._count
        if (bound, count) not in self._texts:
            self._texts[bound, count] = self._made(bound)
        return self._texts[bound, count]

    def _made(self, left: int) -> str:
        kept: list[str] = []
        for line in reversed(list(self._lines)):
            clean = redact_text(line).encode("utf-8", "backslashreplace")
            left -= len(clean) + 1
            if left < 0:
                break
            kept.append(clean.decode())
        if missing := self._count - len(kept):
            kept.append(f"... {missing} lines are not kept")
        return "\n".join(reversed(kept))


def capture(bounds: LogBounds) -> None:
    """From now on, what tasks of this process log is kept in their contexts.

    By the factory of log records and not by a handler: a handler on the root logger would silence the standard
    library's handler of last resort, and would not see loggers that do not propagate.
    """
    make = logging.getLogRecordFactory()

    def make_and_keep(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        context = current_context.get()
        if context is not None and record.levelno >= bounds.level:
            if context.log is None:
                context.log = KeptLog(bounds)
            context.log.add(record)
        return record

    logging.setLogRecordFactory(make_and_keep)
