"""Backoffs: how long to wait after which failed attempt."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

logger = logging.getLogger("django_taskq")

# The number of the attempt that failed, from 1 -> seconds until the next.
Backoff = Callable[[int], float]


def _require_seconds(name: str, value: Any, *, least: float = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be a number, {least:g} or more, not {value!r}")


@dataclass(frozen=True, slots=True)
class Exponential:
    """base, base * factor, base * factor ** 2 ... seconds, at most `maximum`.

    With `jitter` the delay is drawn evenly from the upper half (d/2 to d), so that tasks which failed together do not
    come back together, and none comes back at once.
    """

    base: float = 1
    factor: float = 2
    maximum: float = 600
    jitter: bool = True

    def __post_init__(self) -> None:
        _require_seconds("base", self.base)
        _require_seconds("factor", self.factor, least=1)
        _require_seconds("maximum", self.maximum)

    def __call__(self, attempt: int) -> float:
        try:
            delay = min(self.maximum, self.base * float(self.factor) ** (attempt - 1))
        except OverflowError:
            delay = self.maximum
        return random.uniform(delay / 2, delay) if self.jitter else float(delay)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same number of seconds."""

    delay: float

    def __post_init__(self) -> None:
        _require_seconds("delay", self.delay)

    def __call__(self, attempt: int) -> float:
        return float(self.delay)


@dataclass(frozen=True, slots=True)
class Linear:
    """step, 2 * step, 3 * step ... seconds, at most `maximum`."""

    step: float
    maximum: float = 600

    def __post_init__(self) -> None:
        _require_seconds("step", self.step)
        _require_seconds("maximum", self.maximum)

    def __call__(self, attempt: int) -> float:
        return float(min(self.maximum, self.step * attempt))


@dataclass(frozen=True, slots=True)
class Steps:
    """The seconds of a list, one after the other; the last one from then on."""

    delays: tuple[float, ...]

    def __call__(self, attempt: int) -> float:
        return self.delays[min(attempt, len(self.delays)) - 1]


DEFAULT_BACKOFF = Exponential()


def as_backoff(value: Any) -> Backoff:
    """A backoff from what a task was declared with; raises ValueError.

    Takes one of the classes above, a number of seconds or a timedelta (always that), a list of them, or a callable:
    the number of the attempt that failed, from 1, -> seconds.
    """
    if callable(value):
        return cast("Backoff", value)
    if isinstance(value, int | float | timedelta):
        return Fixed(_seconds(value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        delays = tuple(_seconds(item) for item in value)
        for delay in delays:
            _require_seconds("each delay", delay)
        return Steps(delays)
    raise ValueError(
        "backoff takes Exponential(...), Linear(...), Fixed(...), seconds, a list of seconds or a callable, "
        f"not {value!r}"
    )


def _seconds(value: Any) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def ask(backoff: Backoff, attempt: int) -> float:
    """The backoff's answer. One that fails must not lose the retry, so the default takes its place."""
    try:
        delay = _seconds(backoff(attempt))
        if math.isfinite(delay):
            return float(delay)
        problem: object = f"returned {delay!r}"
    except Exception as error:  # noqa: BLE001
        problem = f"raised {error!r}"
    logger.error("backoff %r %s for attempt %s; the default is used instead", backoff, problem, attempt)
    return DEFAULT_BACKOFF(attempt)
