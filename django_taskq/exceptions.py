"""Every error this package raises. The class docstring is the message where the raiser gives none."""

from __future__ import annotations

import inspect
import math
from datetime import timedelta
from typing import Any


def _default_message(error: BaseException) -> str:
    # python -OO strips docstrings
    return inspect.cleandoc(type(error).__doc__ or type(error).__name__)


class TaskqError(Exception):
    """Something went wrong in the task queue."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _default_message(self))


# --- raised where a task is defined or sent ---------------------------------------------------------------------------


class InvalidTask(TaskqError):
    """A task, or an option given to it, cannot be used as it is."""


class UnknownQueue(InvalidTask):
    """The queue is not declared in TASKQ["QUEUES"]."""


class InvalidArguments(TaskqError):
    """The arguments do not fit the task's signature, or do not survive as JSON."""


class PayloadTooLarge(TaskqError):
    """The arguments exceed TASKQ["MAX_PAYLOAD_BYTES"]; store the data elsewhere and pass a reference."""


class QueueFull(TaskqError):
    """The queue has reached its maximum length; nothing was sent. In a batch, nothing of the part that failed.

    `queue`; `depth`: tasks that wait there; `limit`: its max_length.
    """

    def __init__(self, message: str = "", *, queue: str = "", depth: int = 0, limit: int = 0, new: int = 1) -> None:
        """`new`: how many were to be sent."""
        if queue and not message:
            what = "this one" if new == 1 else f"{new} at once"
            message = f"Queue {queue!r} is full: {depth} tasks wait there, max_length={limit} has no room for {what}."
        super().__init__(message)
        self.queue, self.depth, self.limit = queue, depth, limit


class RateLimited(TaskqError):
    """The task's rate_limit refuses the call; nothing was sent. `seconds`: how long until it would be accepted."""

    def __init__(self, message: str = "", *, task: str = "", seconds: float = 0.0) -> None:
        super().__init__(
            message or (f"{task}: its rate_limit refuses this call; try again in {seconds:.3f} s." if task else "")
        )
        self.task = task
        self.seconds = seconds


class BrokerUnavailable(TaskqError):
    """The broker could not be reached. `id` is that of the task, which may or may not have arrived: sending the same
    id again does no harm."""

    def __init__(self, message: str = "", id: str | None = None) -> None:
        super().__init__(message)
        self.id = id


class BrokerFull(BrokerUnavailable):
    """The broker's memory is full (maxmemory); nothing was sent."""


class BrokerRefused(TaskqError):
    """The broker answered with an error that is neither being away nor being full."""


class MalformedMessage(TaskqError):
    """An entry of a queue's stream is not a message of this package."""


class Undecryptable(TaskqError):
    """A sealed value cannot be opened: it was altered or cut, or belongs to another task."""


class KeyMissing(Undecryptable):
    """A value is sealed, or is to be sealed, with a key that this process does not have. `key_id` names it."""

    def __init__(self, message: str = "", *, key_id: str = "") -> None:
        super().__init__(
            message
            or (
                key_id
                and f"The key {key_id!r} is not in this process' TASKQ['ENCRYPTION_KEYS'], or stands there as None."
            )
        )
        self.key_id = key_id


class Unsealed(Undecryptable):
    """The message of a task with encrypt=True came with plain arguments, which anybody can write who reaches Redis."""


# --- raised by handles ------------------------------------------------------------------------------------------------


class TaskNotFound(TaskqError):
    """Neither the broker nor the records know a task with this id."""


class ResultTimeout(TaskqError, TimeoutError):
    """The task had not ended when the time to wait for it was over."""


class ResultError(TaskqError):
    """The task succeeded, but its result cannot be had."""


class InvalidBatchResult(TaskqError):
    """A batch returned something else than None or one result for each call: nobody knows which of them succeeded."""


class TaskFailed(TaskqError):
    """The task ended without a result.

    `status` is failed, cancelled, expired or discarded; `error_class` (a dotted path), `error_message` and `traceback`
    are those of the last attempt and empty where there was none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: str = "",
        error_class: str = "",
        error_message: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_class = error_class
        self.error_message = error_message
        self.traceback = traceback


# --- raised inside a task ---------------------------------------------------------------------------------------------


class Retry(Exception):
    """The task asked to be tried again."""

    def __init__(self, delay: float | timedelta | None = None, message: str = "") -> None:
        """`delay`: seconds until the next attempt; None leaves it to the task's backoff. Counts as a retry."""
        super().__init__(message or _default_message(self))
        seconds: Any = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if seconds is not None and (not isinstance(seconds, int | float) or not math.isfinite(seconds)):
            raise TypeError(f"Retry(delay=...) takes seconds or a timedelta, not {delay!r}.")
        self.delay: float | None = seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.delay, str(self))


class Discard(Exception):
    """The task asked to be discarded."""

    def __init__(self, reason: str = "") -> None:
        """Ends the task as `discarded`: no retry, no dead letter."""
        super().__init__(reason or _default_message(self))
        self.reason = reason


class RowGone(TaskqError):
    """A row that the task was given is not in the database (any more)."""


class BreakerOpen(TaskqError):
    """A circuit breaker is open: what it guards is down. In a task it leads to another try that uses no attempt."""

    def __init__(self, message: str = "", *, breaker: str = "", seconds: float = 0.0) -> None:
        """`seconds`: how long until it may be asked again."""
        super().__init__(
            message or (f"Circuit breaker {breaker} is open; try again in {seconds:.3f} s." if breaker else "")
        )
        self.breaker = breaker
        self.seconds = seconds


class TaskTimeout(BaseException):
    """The attempt ran into its time limit."""

    # A BaseException, so that `except Exception` does not swallow it.

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _default_message(self))


class HardTimeout(TaskTimeout):
    """The attempt ran into its hard time limit, and its process was killed."""


class TaskCancelled(BaseException):
    """The task was cancelled while it ran."""

    # A BaseException, so that `except Exception` does not swallow it.

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _default_message(self))
