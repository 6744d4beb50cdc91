"""A distributed task queue for Django on Redis Streams."""

from __future__ import annotations

import django_taskq.model_references  # noqa: F401  (makes rows known as arguments)
from django_taskq.batch import BatchCall, BatchContext
from django_taskq.breaker import Breaker
from django_taskq.context import TaskContext, current_task
from django_taskq.core.backoff import Exponential, Fixed, Linear
from django_taskq.decorator import task
from django_taskq.exceptions import (
    BreakerOpen,
    BrokerFull,
    BrokerRefused,
    BrokerUnavailable,
    Discard,
    InvalidArguments,
    InvalidBatchResult,
    InvalidTask,
    KeyMissing,
    MalformedMessage,
    PayloadTooLarge,
    QueueFull,
    RateLimited,
    ResultError,
    ResultTimeout,
    Retry,
    RowGone,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskqError,
    TaskTimeout,
    Undecryptable,
    UnknownQueue,
)
from django_taskq.handle import TaskHandle, get_task
from django_taskq.schedules import Cron, Every
from django_taskq.task import Task

__all__ = [
    "BatchCall",
    "BatchContext",
    "Breaker",
    "BreakerOpen",
    "BrokerFull",
    "BrokerRefused",
    "BrokerUnavailable",
    "Cron",
    "Discard",
    "Every",
    "Exponential",
    "Fixed",
    "InvalidArguments",
    "InvalidBatchResult",
    "InvalidTask",
    "KeyMissing",
    "Linear",
    "MalformedMessage",
    "PayloadTooLarge",
    "QueueFull",
    "RateLimited",
    "ResultError",
    "ResultTimeout",
    "Retry",
    "RowGone",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskTimeout",
    "TaskqError",
    "Undecryptable",
    "UnknownQueue",
    "current_task",
    "get_task",
    "task",
]
__version__ = "0.1.0"
