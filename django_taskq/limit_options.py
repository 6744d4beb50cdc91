"""The options by which a task limits itself: one parser each, and what makes no sense together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_taskq.breaker import parse_breaker
from django_taskq.core.call_key import parse_key
from django_taskq.core.gates import ON_CONFLICT, REFUSE, WAIT
from django_taskq.exceptions import InvalidTask
from django_taskq.rates import Rate, parse_rate


def _max_concurrency(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError("must be a whole number, 1 or more, or None for no limit")
    return value


def _on_conflict(value: Any) -> str:
    if value not in ON_CONFLICT:
        raise ValueError("must be 'wait', 'discard' or 'replace'")
    return str(value)


def _rate(value: Any) -> Rate | None:
    return None if value is None else parse_rate(value)


def _burst(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError("must be a whole number, 1 or more, or None")
    return value


def _mode(value: Any) -> str:
    if value not in (WAIT, REFUSE):
        raise ValueError("must be 'wait' or 'refuse'")
    return str(value)


# Each returns the value as TaskOptions keeps it, or raises ValueError with what it takes.
PARSERS: dict[str, Callable[[Any], Any]] = {
    "max_concurrency": _max_concurrency,
    "concurrency_key": parse_key,
    "on_conflict": _on_conflict,
    "rate_limit": _rate,
    "rate_limit_key": parse_key,
    "rate_limit_burst": _burst,
    "rate_limit_mode": _mode,
    "circuit_breaker": parse_breaker,
}

# option -> the one without which it means nothing
_NEEDS = {
    "concurrency_key": "max_concurrency",
    "on_conflict": "max_concurrency",
    "rate_limit_key": "rate_limit",
    "rate_limit_burst": "rate_limit",
    "rate_limit_mode": "rate_limit",
}


def refuse_contradictions(where: str, given: Mapping[str, Any]) -> None:
    """InvalidTask for options that are fine alone and make no sense together."""
    for option, needed in _NEEDS.items():
        if given.get(option) is not None and given.get(needed) is None:
            raise InvalidTask(f"{where}: {option} means nothing without {needed}.")
    if given.get("circuit_breaker") is not None and given.get("batch") is not None:
        raise InvalidTask(
            f"{where}: circuit_breaker is about single calls, and a batch runs many. Use `with breaker:` inside."
        )
    if given.get("rate_limit_mode") == REFUSE and given.get("outbox"):
        raise InvalidTask(
            f"{where}: rate_limit_mode='refuse' decides when the call is sent, and the outbox sends it later. "
            "Use rate_limit_mode='wait'."
        )
