"""What middleware of this package reads from a message."""

from __future__ import annotations

from django_taskq.context import TaskContext


def header_of(context: TaskContext, name: str) -> str:
    """A header, '' without it. A batch has none: what one of its senders had active is not meant for the others."""
    return "" if context.calls else context.headers.get(name, "")
