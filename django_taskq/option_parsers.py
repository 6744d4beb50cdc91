"""One parser per option of a task: the value as TaskOptions keeps it, or a ValueError that says what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from django.conf import settings as django_settings

from django_taskq import limit_options
from django_taskq.core.backoff import as_backoff
from django_taskq.core.call_key import parse_key
from django_taskq.moments import parse_moment, parse_span
from django_taskq.setting_parsers import RECORD_CHOICES

LARGEST_BATCH = 1_000  # calls
LONGEST_GATHERING = 3_600.0  # seconds that a worker may hold calls without running them


def _queue_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a queue")
    return value


def _alias(value: Any) -> str:
    if not isinstance(value, str) or value not in django_settings.DATABASES:
        raise ValueError("must be an alias of DATABASES")
    return value


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise ValueError("must be a whole number from -100 to 100 (higher runs first)")
    return value


def _max_retries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("must be a whole number, 0 or more")
    return value


def _limit(value: Any) -> float | None:
    if value is None:
        return None
    seconds = parse_span(value, "seconds, a timedelta or None").total_seconds()
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds, or None for no limit")
    return seconds


def _patience(value: Any) -> float | None:
    return None if value is None else max(0.0, parse_span(value, "seconds, a timedelta or None").total_seconds())


def _ttl(value: Any) -> int:
    seconds = math.ceil(parse_span(value, "seconds or a timedelta").total_seconds())
    if seconds <= 0:
        raise ValueError("must be at least 1 second")
    return seconds


def _idempotency_key(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > 255 or not value.isprintable():
        raise ValueError("must be a string of 1 to 255 printable characters, or None")
    return value


def _errors(value: Any) -> tuple[type[BaseException], ...]:
    kinds = (value,) if isinstance(value, type) else value
    if not isinstance(kinds, tuple | list | set | frozenset):
        raise ValueError("must be an exception class or a tuple of them")
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError("must hold exception classes only")
    return tuple(kinds)


def _record(value: Any) -> str:
    if value not in RECORD_CHOICES:
        raise ValueError("must be 'all' or 'failures'")
    return str(value)


def _row_gone(value: Any) -> str:
    if value not in ("discard", "fail"):
        raise ValueError("must be 'discard' or 'fail'")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _batch(value: Any) -> int | None:
    if value is None or (type(value) is int and 1 <= value <= LARGEST_BATCH):
        return value
    raise ValueError(f"must be a whole number from 1 to {LARGEST_BATCH:,}: how many calls run together at most")


def _batch_timeout(value: Any) -> float:
    seconds = parse_span(value, "seconds or a timedelta").total_seconds()
    if not 0 <= seconds <= LONGEST_GATHERING:
        raise ValueError(f"must be from 0 to {LONGEST_GATHERING:g} seconds")
    return seconds


PARSERS: dict[str, Callable[[Any], Any]] = {
    "queue_name": _queue_name,
    "priority": _priority,
    "run_after": parse_moment,
    "expires": parse_moment,
    "deadline": parse_moment,
    "inherit_deadline": _flag,
    "max_retries": _max_retries,
    "backoff": as_backoff,
    "retry_on": _errors,
    "discard_on": _errors,
    "row_gone": _row_gone,
    "timeout": _limit,
    "hard_timeout": _limit,
    "idempotency_key": _idempotency_key,
    "idempotency_ttl": _ttl,
    "record": _record,
    "enqueue_timeout": _patience,
    "api": _flag,
    "outbox": _flag,
    "encrypt": _flag,
    "batch": _batch,
    "batch_timeout": _batch_timeout,
    **limit_options.PARSERS,
    "fair_key": parse_key,
    "database": _alias,
}
