"""For the tests of projects that use tasks. docs/testing.md shows how."""

from __future__ import annotations

from django_taskq.testing.cases import TaskqTestCase, TaskqTestMixin, TaskqTransactionTestCase, override_taskq
from django_taskq.testing.sent import (
    EnqueuedTask,
    assert_enqueued,
    assert_not_enqueued,
    clear_enqueued,
    enqueued,
    run_enqueued,
)

__all__ = [
    "EnqueuedTask",
    "TaskqTestCase",
    "TaskqTestMixin",
    "TaskqTransactionTestCase",
    "assert_enqueued",
    "assert_not_enqueued",
    "clear_enqueued",
    "enqueued",
    "override_taskq",
    "run_enqueued",
]
