"""A delivery that is ready to run, with the limits that its message and its task set."""

from __future__ import annotations

from typing import Any

from django_taskq.broker.delivery import Delivery
from django_taskq.context import TaskContext
from django_taskq.core.message import Message
from django_taskq.exceptions import MalformedMessage
from django_taskq.task import Task


class Work:
    """`started` is monotonic seconds. Raises MalformedMessage for options that make no sense."""

    __slots__ = (
        "args", "context", "delivery", "hard_timeout", "kwargs", "message", "sealed", "started", "task", "timeout",
    )  # fmt: skip

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, delivery: Delivery, message: Message, task: Task[..., Any], started: float) -> None:
        self.delivery = delivery
        self.message = message
        self.task = task
        self.started = started
        # An array is what plain arguments are. What of it would be stored is sealed before.
        self.sealed = task.encrypt or message.args[:1] != b"["
        self.timeout, self.hard_timeout, retries = task.timeout, task.hard_timeout, task.max_retries
        if message.options:
            self.timeout = _span(message.options, "timeout", self.timeout)
            self.hard_timeout = _span(message.options, "hard_timeout", self.hard_timeout)
            retries = _count(message.options, "max_retries", retries)
        deadline = None if self.timeout is None else started + self.timeout
        self.context = TaskContext(message, task, delivery.lane.queue, deadline, retries)

    def end_by(self, deadline: float) -> None:
        """Shortens the time limit so that it ends at the task's deadline, in monotonic seconds."""
        if self.context.deadline is None or deadline < self.context.deadline:
            self.context.deadline, self.timeout = deadline, max(0.0, deadline - self.started)


def _span(options: dict[str, Any], name: str, default: float | None) -> float | None:
    """An option of a message that is seconds or null; raises MalformedMessage."""
    value = options.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise MalformedMessage(f"Option {name} must be seconds or null, not {value!r:.100}.")
    return value


def _count(options: dict[str, Any], name: str, default: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedMessage(f"Option {name} must be a whole number, not {value!r:.100}.")
    return value
