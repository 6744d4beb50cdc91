"""What follows a failed attempt: another one, a dead letter, or nothing. Pure: data in, a decision out."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

from django_taskq.core.backoff import Backoff, ask
from django_taskq.exceptions import Discard, Retry, TaskTimeout

LONGEST_DELAY = 10 * 365 * 86_400.0  # seconds; Redis scores and JavaScript dates still hold it


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
        delay = ask(backoff, attempt) if asked_for is None else asked_for
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
