"""The models: records of what has ended, periodic tasks, the outbox, API tokens, and the admin's live pages."""

from __future__ import annotations

from django_taskq.models.ended import (
    ERROR_CLASS_LENGTH,
    QUEUE_LENGTH,
    REASON_LENGTH,
    TASK_LENGTH,
    WORKER_LENGTH,
    DeadTask,
    Ended,
    TaskResult,
)
from django_taskq.models.outbox import OutboxEntry
from django_taskq.models.pages import Limit, Overview, Queue, TaskType, Worker
from django_taskq.models.tokens import ApiToken
from django_taskq.periodic_task import PeriodicTask

__all__ = [
    "ERROR_CLASS_LENGTH",
    "QUEUE_LENGTH",
    "REASON_LENGTH",
    "TASK_LENGTH",
    "WORKER_LENGTH",
    "ApiToken",
    "DeadTask",
    "Ended",
    "Limit",
    "OutboxEntry",
    "Overview",
    "PeriodicTask",
    "Queue",
    "TaskResult",
    "TaskType",
    "Worker",
]
