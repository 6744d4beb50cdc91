"""What type checkers and editors know of the options of `@task` and `using()`. options.py checks them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, TypedDict

from django_taskq.breaker import Breaker
from django_taskq.core.backoff import Backoff
from django_taskq.core.call_key import KeySource
from django_taskq.schedules import Cron, Every

When = datetime | timedelta | float
Errors = type[BaseException] | Sequence[type[BaseException]]


class SharedOptions(TypedDict, total=False):
    """What both take. Spans are seconds or timedeltas."""

    queue_name: str
    priority: int
    run_after: When | None
    expires: When | None
    deadline: When | None
    inherit_deadline: bool
    max_retries: int
    timeout: float | timedelta | None
    hard_timeout: float | timedelta | None
    idempotency_key: str | None
    idempotency_ttl: float | timedelta
    record: Literal["all", "failures"]
    enqueue_timeout: float | timedelta | None


class CallOptions(SharedOptions, total=False):
    """What `using()` takes."""

    database: str


class Options(SharedOptions, total=False):
    """What `@task` takes, beside `takes_context` and `batch`."""

    name: str
    backoff: Backoff | float | timedelta | Sequence[float | timedelta]
    retry_on: Errors
    discard_on: Errors
    row_gone: Literal["discard", "fail"]
    api: bool
    outbox: bool
    encrypt: bool
    cron: str | Cron | Sequence[str | Cron] | None
    every: float | timedelta | Every | Sequence[float | timedelta | Every] | None
    max_concurrency: int | None
    concurrency_key: KeySource | None
    fair_key: KeySource | None
    on_conflict: Literal["wait", "discard", "replace"]
    rate_limit: str | tuple[int, timedelta] | None
    rate_limit_key: KeySource | None
    rate_limit_burst: int | None
    rate_limit_mode: Literal["wait", "refuse"]
    circuit_breaker: Breaker | None
