"""What follows a failed attempt: how long to wait, and whether to try again at all. Pure: data in, a decision out."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple, cast

from django_taskq.exceptions import Discard, Retry, TaskTimeout

logger = logging.getLogger("django_taskq")

# The number of the attempt that failed, from 1 -> seconds until the next.
Backoff = Callable[[int], float]

LONGEST_DELAY = 10 * 365 * 86_400.0  # seconds; Redis scores and JavaScript dates still hold it


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


class Decision(NamedTuple):
    """What to do with a task whose attempt ended in an exception."""

    kind: Literal["retry", "bury", "discard"]
    delay: float = 0.0  # seconds until the next attempt
    reason: str = ""


def decide(
    error: BaseException,
    *,
    attempt: int,
    max_retries: int,
    backoff: Backoff,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    discard_on: tuple[type[BaseException], ...] = (),
) -> Decision:
    """What follows when attempt number `attempt` (from 1) ended in `error`. Never raises.

    `Discard` and `discard_on` come first, then `Retry`, then `retry_on`. Errors that are no `Exception` (TaskTimeout,
    SystemExit ...) are retried like an `Exception`: by default, but not when `retry_on` names other errors only.
    """
    kind = type(error)  # an error's __class__ may be a lie, or raise
    what = what_follows(kind, attempt=attempt, max_retries=max_retries, retry_on=retry_on, discard_on=discard_on)
    if what == "discard":
        own = issubclass(kind, Discard)
        return Decision("discard", reason=cast("Discard", error).reason if own else f"discard_on: {kind.__name__}")
    if what == "retry":
        asked_for = cast("Retry", error).delay if issubclass(kind, Retry) else None
        delay = _ask(backoff, attempt) if asked_for is None else asked_for
        return Decision("retry", min(max(delay, 0.0), LONGEST_DELAY))
    return Decision("bury", reason="timeout" if issubclass(kind, TaskTimeout) else "failed")


def before_deadline(decision: Decision, kind: type[BaseException], left: float) -> Decision:
    """What a task's deadline makes of it, which is over in `left` seconds: no attempt begins after it."""
    cut_short = decision.kind == "bury" and left <= 0 and issubclass(kind, TaskTimeout)
    if cut_short or (decision.kind == "retry" and decision.delay >= left):
        return Decision("bury", reason="deadline")
    return decision


def what_follows(
    kind: type[BaseException],
    *,
    attempt: int,
    max_retries: int,
    retry_on: tuple[type[BaseException], ...],
    discard_on: tuple[type[BaseException], ...],
) -> Literal["retry", "bury", "discard"]:
    """What `decide` decides, of an error's class alone; no backoff is asked."""
    if issubclass(kind, (Discard, *discard_on)):
        return "discard"
    if attempt <= max_retries and (issubclass(kind, Retry) or _is_retried(kind, retry_on)):
        return "retry"
    return "bury"


def _is_retried(kind: type[BaseException], retry_on: tuple[type[BaseException], ...]) -> bool:
    if issubclass(kind, retry_on) or issubclass(kind, Exception):
        return issubclass(kind, retry_on)
    return any(issubclass(Exception, each) for each in retry_on)


def _ask(backoff: Backoff, attempt: int) -> float:
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
