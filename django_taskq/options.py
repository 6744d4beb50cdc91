"""The options of a task: what each may be, and which do not go together. Checked when a module is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from django.conf import settings as django_settings

from django_taskq import limit_options
from django_taskq.breaker import Breaker
from django_taskq.conf import RECORD_CHOICES, Settings
from django_taskq.core.call_key import KeySource, parse_key
from django_taskq.core.gates import WAIT
from django_taskq.core.message import DEFAULT_IDEMPOTENCY_TTL
from django_taskq.core.retry import DEFAULT_BACKOFF, Backoff, as_backoff
from django_taskq.exceptions import InvalidTask, UnknownQueue
from django_taskq.keyring import require_encryption
from django_taskq.moments import Moment, parse_moment, parse_span
from django_taskq.rates import Rate
from django_taskq.values import close_match

# No colon: names are parts of Redis keys.
_NAME = re.compile(r"[\w.@/-]{1,200}")
LARGEST_BATCH = 1_000  # calls
BATCH_TIMEOUT = 1.0  # seconds
LONGEST_GATHERING = 3_600.0  # seconds that a worker may hold calls without running them


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Every option with its default; spans are seconds. docs/configuration.md says what each does."""

    queue_name: str = "default"
    priority: int = 0
    run_after: Moment | None = None
    expires: Moment | None = None
    deadline: Moment | None = None
    inherit_deadline: bool = False
    max_retries: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    discard_on: tuple[type[BaseException], ...] = ()
    row_gone: str = "discard"
    timeout: float | None = 300.0
    hard_timeout: float | None = None
    idempotency_key: str | None = None
    idempotency_ttl: int = DEFAULT_IDEMPOTENCY_TTL
    record: str = "all"
    enqueue_timeout: float | None = None  # that of the queue
    api: bool = False
    outbox: bool = False
    encrypt: bool = False
    batch: int | None = None
    batch_timeout: float = BATCH_TIMEOUT
    max_concurrency: int | None = None
    concurrency_key: KeySource | None = None
    fair_key: KeySource | None = None
    on_conflict: str = WAIT
    rate_limit: Rate | None = None
    rate_limit_key: KeySource | None = None
    rate_limit_burst: int | None = None  # None: 1, or where calls are refused the rate's own number
    rate_limit_mode: str = WAIT
    circuit_breaker: Breaker | None = None


def resolve(task: str, declared: Mapping[str, Any], settings: Settings) -> TaskOptions:
    """A task's options with TASK_DEFAULTS below them; raises InvalidTask, or UnknownQueue for an undeclared queue."""
    defaults = parse("TASKQ['TASK_DEFAULTS']", settings.task_defaults, allowed=DEFAULTABLE)
    given = {**defaults, **declared}
    refuse_contradictions(f"Task {task}", {"outbox": settings.outbox, **given})
    require_queue(f"Task {task}", given.get("queue_name", "default"), settings)
    ours = {"record": settings.record, "outbox": settings.outbox, "encrypt": settings.encrypt}
    options = TaskOptions(**{**ours, **given})
    if options.encrypt:
        require_encryption(f"Task {task}", settings)
    if not options.outbox:
        return options
    refuse_unrecorded(f"Task {task}", given)
    return replace(options, record="all")


def parse(where: str, given: Mapping[str, Any], *, allowed: frozenset[str]) -> dict[str, Any]:
    """The options' values in the form that TaskOptions keeps; InvalidTask names the option and what it takes."""
    parsed = {}
    for option, value in given.items():
        if option not in allowed:
            elsewhere = " It is decided by @task alone." if option in _PARSERS or option in ONLY_TASK else ""
            raise InvalidTask(f"{where}: unknown option {option!r}.{elsewhere or close_match(option, allowed)}")
        try:
            parsed[option] = _PARSERS[option](value)
        except ValueError as error:
            raise InvalidTask(f"{where}: option {option}={_shown(value)}: {error}.") from error
    return parsed


def parse_name(where: str, name: Any) -> str:
    """The name a task goes by on the wire; InvalidTask if messages and keys could not carry it."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidTask(
            f"Task {where}: option name={_shown(name)}: must be 1 to 200 letters, digits, '_', '.', '-', '/' or '@'."
        )
    return name


def refuse_contradictions(where: str, given: Mapping[str, Any]) -> None:
    """InvalidTask for options that are fine alone and make no sense together."""
    soft, hard = given.get("timeout"), given.get("hard_timeout")
    if soft is not None and hard is not None and hard <= soft:
        raise InvalidTask(
            f"{where}: hard_timeout={hard:g} kills the process before timeout={soft:g} can end the task. "
            "Make hard_timeout the longer one."
        )
    start = given.get("run_after")
    for option, what in (("expires", "it would expire"), ("deadline", "its deadline would be over")):
        end = given.get(option)
        if start is not None and end is not None and start.relative == end.relative and end.ms <= start.ms:
            raise InvalidTask(f"{where}: {what} before run_after lets it start.")
    if given.get("batch") is None and "batch_timeout" in given:
        raise InvalidTask(f"{where}: batch_timeout says how long a batch waits for more calls; it needs batch=... .")
    limit_options.refuse_contradictions(where, given)
    both = set(given.get("retry_on", ())) & set(given.get("discard_on", ()))
    if both:
        raise InvalidTask(f"{where}: {', '.join(kind.__name__ for kind in both)} is in retry_on and in discard_on.")


def refuse_unrecorded(where: str, given: Mapping[str, Any]) -> None:
    """InvalidTask for a task of the outbox that would not be recorded."""
    if given.get("record", "all") != "all":
        raise InvalidTask(
            f"{where}: record={given['record']!r} contradicts the outbox, which looks in the records for what has been "
            "sent: what goes through it is always recorded. Leave record out, or set outbox=False."
        )


def require_queue(where: str, queue: str, settings: Settings) -> None:
    """UnknownQueue unless TASKQ declares the queue."""
    if queue not in settings.queues:
        raise UnknownQueue(
            f"{where}: queue {queue!r} is not declared in TASKQ['QUEUES'], which has "
            f"{', '.join(repr(name) for name in settings.queues)}."
        )


def require_outbox(where: str, database: str | None, settings: Settings) -> None:
    """InvalidTask unless the outbox has a table in the database that a call names."""
    if database is not None and database not in settings.outbox_databases:
        raise InvalidTask(
            f"{where}: option database={database!r}: the outbox has no table there. TASKQ['OUTBOX_DATABASES'] names "
            f"{', '.join(map(repr, settings.outbox_databases))}."
        )


# --- one parser per option: returns the value, or raises ValueError with what it takes --------------------------------


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


_PARSERS: dict[str, Callable[[Any], Any]] = {
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

OPTIONS = frozenset(field.name for field in fields(TaskOptions))
# Limits hold for all calls of a task, so each task says them itself, and no call otherwise.
LIMITS = frozenset(limit_options.PARSERS)
ONLY_TASK = frozenset({"name", "takes_context", "cron", "every"})
# `api` opens a task to the outside: each says so itself, never a default or a call. TASKQ["OUTBOX"] is the default of
# `outbox`, TASKQ["ENCRYPT"] that of `encrypt`; a worker must know of every task where to look for it and whether its
# calls are sealed, so no call decides that. A batch is the function's shape, and a fair key is made of its parameters.
_OWN = frozenset({"api", "outbox", "encrypt", "batch", "batch_timeout", "fair_key"})
DEFAULTABLE = OPTIONS - _OWN - LIMITS - {"idempotency_key"}
# `database`: whose transaction is meant.
CALL_OPTIONS = OPTIONS - _OWN - LIMITS - {"backoff", "retry_on", "discard_on", "row_gone"} | {"database"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
