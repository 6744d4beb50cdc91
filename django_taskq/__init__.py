"""A distributed task queue for Django on Redis Streams."""

from __future__ import annotations

from django_taskq.context import TaskContext, current_task
from django_taskq.core.retry import Exponential, Fixed, Linear
from django_taskq.exceptions import Discard, Retry, TaskCancelled, TaskTimeout

__all__ = [
    "Discard",
    "Exponential",
    "Fixed",
    "Linear",
    "Retry",
    "TaskCancelled",
    "TaskContext",
    "TaskTimeout",
    "current_task",
]
__version__ = "0.1.0"
