"""`run(task, ...)` runs an attempt in this process, inside the middleware; `use("language.language")` chooses that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from django_taskq import BatchCall, Task, TaskContext
from django_taskq.batch import BatchContext
from django_taskq.context import current_context
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.middleware import call_chain
from django_taskq.worker.loop import await_task
from django_taskq.worker.pools import call_task

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

Use = Callable[..., None]


@pytest.fixture
def use(taskq_settings: SettingsWrapper) -> Use:
    """Sets the middleware, by the end of its path, and other keys of TASKQ."""

    def choose(*names: str, **taskq: Any) -> None:
        middleware = [f"django_taskq.middleware.{name}" for name in names]
        taskq_settings.TASKQ = {**taskq_settings.TASKQ, "MIDDLEWARE": middleware, **taskq}

    return choose


class Place:
    worker = "host-1-test"

    def report(self, *_: Any) -> None:
        pass


def context_of(task: Task[..., Any], *args: Any, **fields: Any) -> TaskContext:
    message = Message(new_id(), task.name, msgspec.json.encode(args), **fields)
    context = TaskContext(message, task, "default", None, task.max_retries)
    context.place = Place()
    return context


def batch_of(task: Task[..., Any], *contexts: TaskContext) -> BatchContext:
    """The context of a batch of calls, whose items are 0, 1, 2 ..."""
    batch = BatchContext(contexts[0].message, task, "default", None, task.max_retries)
    batch.place = Place()
    batch.calls = [BatchCall(number, context) for number, context in enumerate(contexts)]
    return batch


def run(context: TaskContext, *args: Any, **kwargs: Any) -> Any:
    """The task's result, or what it raised."""
    token = current_context.set(context)
    try:
        if context.task.is_async:
            return asyncio.run(call_chain(await_task)(context, args, kwargs))
        return call_chain(call_task)(context, args, kwargs)
    except BaseException as error:
        return error
    finally:
        current_context.reset(token)
