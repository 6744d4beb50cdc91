"""What log records say about tasks, and what is kept of a task's own log."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from typing import Any

from django_taskq.context import TaskContext, _current, current_request_id
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.log_bounds import LogBounds
from django_taskq.redaction import redact_text

FIELDS = ("task", "task_id", "queue", "attempt", "worker", "trace_id")
LONGEST_LINE = 2_000  # characters
LEAST_SHARE = 2_000  # bytes for each call of a batch

_TRACE_ID = re.compile(r'"traceparent"\s*:\s*"[0-9a-f]{2}-([0-9a-f]{32})-').search


class TaskContextFilter(logging.Filter):
    """Puts `task`, `task_id`, `queue`, `attempt`, `worker`, `trace_id` and `request_id` on every record.

    Outside of a task they are empty strings, so that a format may name them; with `always=False` they are left out.
    What a record says of itself (`extra=`) stays. It belongs on handlers: a logger's filters do not see what its
    children log.
    """

    def __init__(self, name: str = "", *, always: bool = True) -> None:
        super().__init__(name)
        self._missing = dict.fromkeys((*FIELDS, "request_id"), "") if always else {}

    def filter(self, record: logging.LogRecord) -> Any:
        """True, or what `logging.Filter(name)` says; fills in the fields."""
        context, request_id = _current.get(), current_request_id.get()
        fields: dict[str, object] = {**self._missing}
        if context is not None:
            fields |= fields_of(context)
        if request_id:
            fields["request_id"] = request_id
        for name, value in fields.items():
            record.__dict__.setdefault(name, value)
        return super().filter(record)


def fields_of(context: TaskContext) -> dict[str, object]:
    """The FIELDS of an attempt."""
    return {
        "task": context.name,
        "task_id": context.id,
        "queue": context.queue,
        "attempt": context.attempt,
        "worker": context.worker,
        "trace_id": trace_id_of(context.headers),
    }


def fields_of_message(message: Message, queue: str, worker: str) -> dict[str, object]:
    """The FIELDS of a message that this process cannot run."""
    return {
        "task": message.task,
        "task_id": id_to_str(message.id),
        "queue": queue,
        "attempt": message.attempt + 1,
        "worker": worker,
        "trace_id": trace_id_of(message.headers),
    }


def trace_id_of(headers: dict[str, str]) -> str:
    """The 32 hexadecimal digits of a message's trace (W3C), '' without one."""
    found = _TRACE_ID(headers.get("trace", "")) if headers else None
    return found[1] if found else ""


# --- TASKQ["CAPTURE_LOGS"] --------------------------------------------------------------------------------------------


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
        context = _current.get()
        if context is not None and record.levelno >= bounds.level:
            if context.log is None:
                context.log = KeptLog(bounds)
            context.log.add(record)
        return record

    logging.setLogRecordFactory(make_and_keep)
