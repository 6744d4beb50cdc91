"""Outcomes as rows of the records' tables, ready for a driver.

Model instances and field conversions would cost more than the database itself, so values are made here directly, in the
form that Django's fields would give them on this connection.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.timezone import get_default_timezone

from django_taskq import models
from django_taskq.core.fingerprint import fingerprint
from django_taskq.core.message import Attempt
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.redaction import redact_json

Row = tuple[Any, ...]

# Both tables share these; the order is that of Rows._shared.
SHARED = (
    "run", "task", "queue", "priority", "args", "kwargs", "attempts", "losses", "worker", "reason", "error_class",
    "error_message", "traceback", "history", "enqueued_at", "first_started_at", "started_at", "log",
)  # fmt: skip
RESULT = (*SHARED, "status", "result", "result_error", "finished_at", "wait", "duration", "origin", "id")
DEAD = (*SHARED, "task_id", "state", "fingerprint", "failed_at", "raw")
# What is known of an outcome that asked for no row, when an earlier run left one.
UNRECORDED = (
    "run", "status", "result", "result_error", "finished_at", "started_at", "duration", "reason", "error_class",
    "error_message", "traceback", "history", "log", "id",
)  # fmt: skip

_encode_json = msgspec.json.Encoder().encode
_UNSAFE = re.compile(r"[^\t\n\x20-\x7e]")


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    results: list[Row] = field(default_factory=list)  # columns RESULT
    newer: list[Row] = field(default_factory=list)  # RESULT and the run again: may replace the row of an earlier run
    unrecorded: list[Row] = field(default_factory=list)  # UNRECORDED and the run again
    dead: list[Row] = field(default_factory=list)  # columns DEAD
    requeued: list[Row] = field(default_factory=list)  # closed_at, task_id, run: earlier dead letters are settled

    def escaped(self) -> Batch:
        """The same with every text reduced to printable ASCII: other characters become JSON escapes."""
        return Batch(*([tuple(map(escape, row)) for row in rows] for rows in (
            self.results, self.newer, self.unrecorded, self.dead, self.requeued
        )))  # fmt: skip


class Rows:
    """Makes the rows for one database connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._time = _time_adapter(connection)
        self._uuid: Callable[[bytes], Any] = _as_uuid if connection.features.has_native_uuid_field else bytes.hex
        self._binary: Callable[[bytes], Any] = connection.Database.Binary  # type: ignore[attr-defined]

    def batch(self, entries: Iterable[tuple[str, Outcome]]) -> Batch:
        """The rows of outcomes, each with the id of its stream entry, which says when it was settled."""
        batch = Batch()
        for entry, outcome in entries:
            self._add(batch, entry, outcome)
        return batch

    def _add(self, batch: Batch, entry: str, outcome: Outcome) -> None:
        key = self._uuid(outcome.id)
        settled = outcome.finished if outcome.finished is not None else int(entry.partition("-")[0]) / 1000
        finished = self._time(settled)
        failed = outcome.status == State.FAILED
        if outcome.recorded or failed:
            shared = self._shared(outcome)
            if outcome.recorded:
                row = self._result(outcome, shared, finished, key)
                batch.results.append(row)
                if outcome.run > 1:
                    batch.newer.append((*row, outcome.run))
            if failed:
                batch.dead.append(self._dead(outcome, shared, finished, key))
        if outcome.run > 1:
            batch.requeued.append((finished, key, outcome.run))
            if not outcome.recorded:
                result = None if outcome.result is None else _json(outcome.result)
                batch.unrecorded.append((
                    outcome.run, outcome.status, result, _text(outcome.result_error), finished, None, None,
                    _clip(outcome.reason, models.REASON_LENGTH), "", "", "", "[]", "", key, outcome.run,
                ))  # fmt: skip

    def _shared(self, outcome: Outcome) -> Row:
        """The values of the columns SHARED."""
        started = None if outcome.started is None else self._time(outcome.started)
        if outcome.first_started is None or outcome.first_started == outcome.started:
            first_started = started
        else:
            first_started = self._time(outcome.first_started)
        return (
            outcome.run,
            _clip(outcome.task, models.TASK_LENGTH),
            _clip(outcome.queue, models.QUEUE_LENGTH),
            outcome.priority,
            _json(outcome.args),
            _json(outcome.kwargs),
            outcome.attempts,
            outcome.losses,
            _clip(outcome.worker, models.WORKER_LENGTH),
            _clip(outcome.reason, models.REASON_LENGTH),
            _clip(outcome.error_class, models.ERROR_CLASS_LENGTH),
            _text(outcome.error_message),
            _text(outcome.traceback),
            _history(outcome.history) if outcome.history else "[]",
            None if outcome.enqueued is None else self._time(outcome.enqueued),
            first_started,
            started,
            _text(outcome.log),
        )

    def _result(self, outcome: Outcome, shared: Row, finished: Any, key: Any) -> Row:
        started, finish, duration = outcome.started, outcome.finished, None
        if started is not None and finish is not None:
            duration = max(0.0, finish - started)
        result = None if outcome.result is None else _json(outcome.result)
        return (
            *shared, outcome.status, result, _text(outcome.result_error), finished, outcome.wait, duration,
            outcome.origin or None, key,
        )  # fmt: skip

    def _dead(self, outcome: Outcome, shared: Row, finished: Any, key: Any) -> Row:
        kind = fingerprint(outcome.task, outcome.reason, outcome.error_class, outcome.traceback)
        return (*shared, key, models.DeadTask.State.DEAD.value, kind, finished, self._binary(outcome.raw))


def reduced(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome with nothing in it that a database could refuse; the raw message of a dead letter is kept."""
    ascii_error = escape(f"The outcome could not be stored as it was: {type(error).__name__}: {error}")[:1000]
    return Outcome(
        id=outcome.id,
        run=min(max(outcome.run, 1), 2**31 - 1),
        status=outcome.status if outcome.status in set(State) else State.FAILED.value,
        recorded=outcome.recorded,
        result_error=ascii_error,
        task=escape(outcome.task)[: models.TASK_LENGTH],
        queue=escape(outcome.queue)[: models.QUEUE_LENGTH],
        worker=escape(outcome.worker)[: models.WORKER_LENGTH],
        error_class=escape(outcome.error_class)[: models.ERROR_CLASS_LENGTH],
        error_message=escape(outcome.error_message[:1000]),
        reason=escape(outcome.reason)[: models.REASON_LENGTH],
        raw=outcome.raw,
    )


def _time_adapter(connection: BaseDatabaseWrapper) -> Callable[[float], Any]:
    """Epoch seconds as a DateTimeField stores them on this connection."""
    fromtimestamp = dt.datetime.fromtimestamp
    if settings.USE_TZ and connection.features.supports_timezones:
        return lambda seconds: fromtimestamp(seconds, dt.UTC)
    zone = connection.timezone or get_default_timezone()
    adapt = connection.ops.adapt_datetimefield_value
    return lambda seconds: adapt(fromtimestamp(seconds, zone).replace(tzinfo=None))


def _as_uuid(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=raw)


def _json(raw: bytes) -> str:
    return (
        raw.decode("utf-8", "backslashreplace")
        if len(raw) <= 2
        else redact_json(raw).decode("utf-8", "backslashreplace")
    )


def _text(text: str) -> str:
    """PostgreSQL refuses a NUL in any text, so it is escaped before it can cost a batch its transaction."""
    return text.replace("\x00", "\\x00") if text else text


def _clip(text: str, length: int) -> str:
    return _text(text[:length])[:length]


def _history(history: list[Attempt]) -> str:
    """As objects: rows outlive versions, so they name what they hold."""
    return _encode_json([msgspec.structs.asdict(attempt) for attempt in history]).decode()


def escape(value: Any) -> Any:
    return _UNSAFE.sub(_escape_character, value) if isinstance(value, str) else value


def _escape_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000  # as JSON does it, in a pair of surrogates
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
