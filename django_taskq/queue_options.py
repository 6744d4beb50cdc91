"""What a queue is declared with: the inner dicts of TASKQ["QUEUES"]. docs/configuration.md explains each option."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django_taskq.rates import Rate, parse_rate
from django_taskq.values import close_match, shown, span, whole

REFUSE, DROP_OLDEST = "refuse", "drop_oldest"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Every option with its default; spans are seconds."""

    max_length: int | None = None  # tasks that may wait; None: any number
    overflow: str = REFUSE  # what a producer does at a full queue
    enqueue_timeout: float = 0.0  # how long a producer waits for room
    rate_limit: Rate | None = None  # starts
    max_concurrency: int | None = None  # tasks of the queue that may run at once


def parse_queue(given: Mapping[Any, Any]) -> QueueOptions:
    """The options of one queue; a ValueError names the option and says what it takes."""
    options: dict[str, Any] = {}
    for option, value in given.items():
        if option not in _PARSERS:
            raise ValueError(f"the unknown option {option!r}.{close_match(option, _PARSERS)}")
        try:
            options[option] = _PARSERS[option](value)
        except ValueError as error:
            raise ValueError(f"{option}, which {error}") from error
    _refuse_contradictions(options)
    return QueueOptions(**options)


def _refuse_contradictions(options: Mapping[str, Any]) -> None:
    if options.get("max_length") is None:
        for option in ("overflow", "enqueue_timeout"):
            if option in options:
                raise ValueError(f"{option}, which means nothing without max_length.")
    if options.get("overflow") == DROP_OLDEST and options.get("enqueue_timeout"):
        raise ValueError("overflow='drop_oldest', which makes room at once: enqueue_timeout has nothing to wait for.")


# --- one parser per option: returns the value, or raises ValueError with what it takes --------------------------------


def _max_length(value: Any) -> int | None:
    return None if value is None else whole(value, 1)


def _overflow(value: Any) -> str:
    if value not in (REFUSE, DROP_OLDEST):
        raise ValueError(f"must be 'refuse' or 'drop_oldest', not {shown(value)}.")
    return str(value)


def _rate_limit(value: Any) -> Rate | None:
    try:
        return None if value is None else parse_rate(value)
    except ValueError as error:
        raise ValueError(f"{error}.") from error


def _max_concurrency(value: Any) -> int | None:
    return None if value is None else whole(value, 1)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "max_length": _max_length,
    "max_concurrency": _max_concurrency,
    "rate_limit": _rate_limit,
    "overflow": _overflow,
    "enqueue_timeout": lambda value: span(value).total_seconds(),
}
