"""What a running task can know about itself."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.core.progress import Progress
from django_taskq.core.sealing import is_sealed_json
from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from django_taskq.batch import BatchCall
    from django_taskq.kept_log import KeptLog
    from django_taskq.task import Task


class Place(Protocol):
    """What runs an attempt, as its context sees it."""

    @property
    def worker(self) -> str:
        """The worker's id."""

    def report(self, context: TaskContext, progress: Progress) -> None:
        """Makes progress known; ignores an attempt that it does not run any more."""


class TaskContext:
    """One attempt, seen from inside. Made on the hot path: what is more than a field is computed on demand."""

    __slots__ = ("deadline", "log", "max_retries", "message", "place", "queue", "task")

    calls: Sequence[BatchCall[Any]] = ()  # all calls of a batch, in the context of a batch

    def __init__(
        self, message: Message, task: Task[..., Any], queue: str, deadline: float | None, max_retries: int
    ) -> None:
        self.message = message
        self.task = task
        self.queue = queue
        self.deadline = deadline  # time.monotonic() seconds at which the attempt is interrupted; None: never
        self.max_retries = max_retries
        self.place: Place | None = None  # where a worker runs it
        self.log: KeptLog | None = None  # what it has logged, where TASKQ["CAPTURE_LOGS"] keeps that

    def __repr__(self) -> str:
        return f"<TaskContext {self.name} {self.id} attempt {self.attempt}>"

    @property
    def id(self) -> str:
        """The task's id, a UUID string."""
        return id_to_str(self.message.id)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.message.task

    @property
    def attempt(self) -> int:
        """1 during the first attempt of a run."""
        return self.message.attempt + 1

    @property
    def run(self) -> int:
        """1, and one more each time the task was requeued from the dead letters."""
        return self.message.run

    @property
    def losses(self) -> int:
        """How often a worker died while it ran this task. A loss uses up no retry."""
        return self.message.losses

    @property
    def headers(self) -> dict[str, str]:
        """What middleware on the producer's side sent along."""
        return self.message.headers

    @property
    def worker(self) -> str:
        """The id of the worker that runs it, '' outside of one."""
        return "" if self.place is None else self.place.worker

    @property
    def retries_left(self) -> int:
        """How many more attempts may follow this one."""
        return max(0, self.max_retries - self.message.attempt)

    def progress(self, current: float, total: float | None = None, text: str = "") -> None:
        """Says how far this attempt is: `current` of `total`, in units of your own, and a few words (120 bytes).

        It shows in the admin, in `taskq_status` and as `handle.progress` within a second. Costs microseconds and no
        round trip, so it may be called as often as you like. Raises TaskqError for numbers that are none.
        """
        if not (_is_finite(current) and (total is None or _is_finite(total))):
            raise TaskqError(f"progress() takes numbers, not {current!r:.50} of {total!r:.50}.")
        if self.place is not None:
            # It goes to Redis as it is.
            said = "" if self.task.encrypt or is_sealed_json(self.message.args) else str(text)
            self.place.report(self, Progress(float(current), None if total is None else float(total), said))

    @property
    def remaining(self) -> float | None:
        """Seconds until the time limit or the task's deadline, whichever comes first; 0.0 then, None without either."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


# The attempt that this thread or coroutine is in the middle of.
current_context: ContextVar[TaskContext | None] = ContextVar("django_taskq_current", default=None)

# The id of the request that all this is about, here and in the tasks that it sends: see middleware/request_id.py.
current_request_id: ContextVar[str] = ContextVar("django_taskq_request_id", default="")


def inherited_deadline() -> int | None:
    """The deadline of the running task, in epoch ms on Redis' clock; None outside of one, and where it has none.

    Of a batch the nearest of its calls', which is when the batch ends: what it sends may be for any of them.
    """
    context = current_context.get()
    if context is None or not context.calls:
        return None if context is None else context.message.deadline
    deadlines = (call.context.message.deadline for call in context.calls)
    return min((deadline for deadline in deadlines if deadline is not None), default=None)


def current_task() -> TaskContext:
    """The context of the task that this thread or coroutine is running; TaskqError outside of one."""
    context = current_context.get()
    if context is None:
        raise TaskqError("current_task() was called outside of a running task.")
    return context
