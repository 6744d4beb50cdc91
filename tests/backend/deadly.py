"""Tasks that take their process with them; what a worker announces of them goes to TASKQ_TEST_LEDGER."""

from __future__ import annotations

import os
import time
from typing import Any

from django_taskq.backend import taskq_options
from tests.backend.api import signals, task
from tests.worker.tasks import write

LEDGER = os.environ.get("TASKQ_TEST_LEDGER", os.devnull)


@task
@taskq_options(max_retries=0, timeout=None, hard_timeout=0.3)
def stuck() -> None:
    time.sleep(60)


@task
@taskq_options(max_retries=1, timeout=None, hard_timeout=0.3, backoff=0.01)
def stuck_twice() -> None:
    time.sleep(60)


@task
def dies() -> None:
    os._exit(1)


def _note(signal: Any, task_result: Any, **_: Any) -> None:
    name = "finished" if signal is signals.task_finished else "started"
    values = {"status": str(task_result.status), "errors": [error.exception_class_path for error in task_result.errors]}
    write(LEDGER, event=name, id=task_result.id, ended=task_result.finished_at is not None, **values)


if "TASKQ_TEST_LEDGER" in os.environ:  # in the worker, not in the process of the tests
    signals.task_started.connect(_note, dispatch_uid="test started")
    signals.task_finished.connect(_note, dispatch_uid="test finished")
