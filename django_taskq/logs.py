"""What log records say about the task that they come from."""

from __future__ import annotations

import logging
import re
from typing import Any

from django_taskq.context import TaskContext, current_context, current_request_id
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message

FIELDS = ("task", "task_id", "queue", "attempt", "worker", "trace_id")
_TRACE_ID = re.compile(r'"traceparent"\s*:\s*"[0-9a-f]{2}-([0-9a-f]{32})-').search


class TaskContextFilter(logging.Filter):
    """Puts `task`, `task_id`, `queue`, `attempt`, `worker`, `trace_id` and `request_id` on every record.

    Outside of a task they are empty strings, so that a format may name them; with `always=False` they are left out.
    What a record says of itself (`extra=`) stays. It belongs on handlers: a logger's filters do not see what its
    children log.
    """

    def __init__(self, name: str = "", *, always: bool = True) -> None:
        super().__init__(name)
        self._missing = dict.fromkeys((*FIELDS, "request_id"), "") if always else {}

    def filter(self, record: logging.LogRecord) -> Any:
        """True, or what `logging.Filter(name)` says; fills in the fields."""
        context, request_id = current_context.get(), current_request_id.get()
        fields: dict[str, object] = {**self._missing}
        if context is not None:
            fields |= fields_of(context)
        if request_id:
            fields["request_id"] = request_id
        for name, value in fields.items():
            record.__dict__.setdefault(name, value)
        return super().filter(record)


def fields_of(context: TaskContext) -> dict[str, object]:
    """The FIELDS of an attempt."""
    return {
        "task": context.name,
        "task_id": context.id,
        "queue": context.queue,
        "attempt": context.attempt,
        "worker": context.worker,
        "trace_id": trace_id_of(context.headers),
    }


def fields_of_message(message: Message, queue: str, worker: str) -> dict[str, object]:
    """The FIELDS of a message that this process cannot run."""
    return {
        "task": message.task,
        "task_id": id_to_str(message.id),
        "queue": queue,
        "attempt": message.attempt + 1,
        "worker": worker,
        "trace_id": trace_id_of(message.headers),
    }


def trace_id_of(headers: dict[str, str]) -> str:
    """The 32 hexadecimal digits of a message's trace (W3C), '' without one."""
    found = _TRACE_ID(headers.get("trace", "")) if headers else None
    return found[1] if found else ""
