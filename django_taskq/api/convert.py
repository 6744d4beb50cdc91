"""From what Redis and the database hold to what the schemas say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from django.utils import timezone

from django_taskq.api.schemas import Attempt
from django_taskq.redaction import UNREADABLE, redact_json

_LAST = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def utc(value: dt.datetime | float | None) -> dt.datetime | None:
    """A time of the records or of Redis (epoch seconds, 0 for none) as one in UTC."""
    if not value:
        return None
    if isinstance(value, int | float):
        try:
            return dt.datetime.fromtimestamp(value, dt.UTC)
        except (OverflowError, ValueError, OSError):
            return None
    return as_utc(value)


def as_utc(value: dt.datetime) -> dt.datetime:
    """A time of the records in UTC."""
    aware = value if timezone.is_aware(value) else timezone.make_aware(value)
    return aware.astimezone(dt.UTC)


def for_database(value: dt.datetime) -> dt.datetime:
    """A time that a client gave, as columns are compared with; far ones are brought to where every database reaches."""
    inside = min(max(value, EPOCH), _LAST)
    return inside if timezone.is_aware(timezone.now()) else timezone.make_naive(inside)


def redacted(text: bytes | str | None) -> Any:
    """A value from its JSON, secrets hidden; a text that says so where it cannot be read."""
    if text is None:
        return None
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return as_json(redact_json(raw))


def as_json(raw: bytes | str) -> Any:
    """A value from its JSON; a text that says so where it cannot be read."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return msgspec.json.decode(UNREADABLE)


def attempts(history: Iterable[Mapping[str, Any]]) -> list[Attempt]:
    """Past attempts, as far as they can be read: rows outlive versions."""
    found = []
    for past in history:
        number = past.get("number")
        if isinstance(number, int):
            texts = (str(past.get(name) or "") for name in ("worker", "error_class", "error_message", "traceback"))
            started, ended = (utc(_number(past.get(name))) for name in ("started", "ended"))
            found.append(Attempt(number, str(past.get("how") or "failed"), started, ended, *texts))
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
