"""The options of a task: who may give them, and which do not go together. Checked when a module is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from django_taskq import limit_options
from django_taskq.breaker import Breaker
from django_taskq.conf import Settings
from django_taskq.core.backoff import DEFAULT_BACKOFF, Backoff
from django_taskq.core.call_key import KeySource
from django_taskq.core.gates import WAIT
from django_taskq.core.message import DEFAULT_IDEMPOTENCY_TTL
from django_taskq.exceptions import InvalidTask, UnknownQueue
from django_taskq.keyring import require_encryption
from django_taskq.moments import Moment
from django_taskq.option_parsers import PARSERS
from django_taskq.rates import Rate
from django_taskq.values import close_match

# No colon: names are parts of Redis keys.
_NAME = re.compile(r"[\w.@/-]{1,200}")
BATCH_TIMEOUT = 1.0  # seconds


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
            elsewhere = " It is decided by @task alone." if option in PARSERS or option in ONLY_TASK else ""
            raise InvalidTask(f"{where}: unknown option {option!r}.{elsewhere or close_match(option, allowed)}")
        try:
            parsed[option] = PARSERS[option](value)
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
