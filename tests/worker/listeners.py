"""Receivers of every signal and middleware that write down what they see; imported by the workers that need them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_taskq import signals
from django_taskq.context import TaskContext
from django_taskq.middleware import Call, around
from django_taskq.models import TaskResult
from tests.worker.tasks import write

LEDGER = os.environ.get("TASKQ_TEST_LEDGER", os.devnull)
TASK_SIGNALS = ("task_started", "task_succeeded", "task_retried", "task_failed", "task_cancelled")


def _listen(name: str) -> None:
    def note(sender: Any, **values: Any) -> None:
        values.pop("signal")
        if context := values.pop("context", None):
            values["attempt"] = context.attempt
        values = {key: repr(value) if isinstance(value, BaseException) else value for key, value in values.items()}
        task = getattr(sender, "name", sender)
        write(LEDGER, event=name, sender=task, thread=threading.current_thread().name, **values)

    getattr(signals, name).connect(note, weak=False, dispatch_uid=f"test {name}")


def _raises(sender: Any, **_: Any) -> None:
    raise ValueError("a receiver that fails")


def _exits(sender: Any, **_: Any) -> None:
    raise SystemExit("a receiver that wants to go")


def _queries(sender: Any, **_: Any) -> None:
    write(LEDGER, event="queried", rows=TaskResult.objects.filter(task="nothing").count())


if "TASKQ_TEST_LEDGER" in os.environ:  # in the worker, not in the process of the tests
    for name in (*TASK_SIGNALS, "worker_started", "worker_stopped"):
        _listen(name)
    for name in TASK_SIGNALS:
        getattr(signals, name).connect(_queries, dispatch_uid="test queries")
        getattr(signals, name).connect(_raises, dispatch_uid="test raises")
        getattr(signals, name).connect(_exits, dispatch_uid="test exits")


def sync_only(call: Call) -> Call:
    def run(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        write(LEDGER, event="sync_only", id=context.id)
        return call(context, args, kwargs)

    return run


@around
@contextmanager
def both(context: TaskContext) -> Iterator[None]:
    write(LEDGER, event="before", id=context.id, tenant=context.headers.get("tenant"))
    try:
        yield
    except Exception as error:
        write(LEDGER, event="raised", id=context.id, error=repr(error))
        raise
    write(LEDGER, event="after", id=context.id)


both.headers = lambda task, message: {"tenant": f"of {task.name.rpartition('.')[2]}"}  # type: ignore[attr-defined]


@around
@contextmanager
def inner(context: TaskContext) -> Iterator[None]:
    write(LEDGER, event="inner", id=context.id)
    yield
