"""Tasks and functions for the tests beside this file. Workers import it by TASKQ_TEST_TASKS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django_taskq import Discard, TaskContext, current_task, task


@task
def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


@task
def move(when: datetime, by: timedelta, *, price: Decimal | None = None) -> datetime:
    return when + by


@task(fair_key="tenant:{tenant_id}", queue_name="default")
def of_tenant(tenant_id: int, note: str = "") -> None:
    return None


@task(fair_key=lambda tenant_id, **_: 8 % tenant_id, max_concurrency=2)
def of_half(tenant_id: int) -> None:
    return None


@task
async def multiply(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a * b


@task(takes_context=True)
def whoami(context: TaskContext, greeting: str) -> str:
    return f"{greeting} {context.name} {context.id} {context.attempt}"


@task(takes_context=True)
async def awhoami(context: TaskContext, greeting: str) -> str:
    return f"{greeting} {context.name}"


@task
def about() -> dict[str, Any]:
    context = current_task()
    return {
        "id": context.id, "name": context.name, "attempt": context.attempt, "run": context.run, "queue": context.queue,
        "retries_left": context.retries_left, "limit": context.remaining, "headers": context.headers,
    }  # fmt: skip


@task
def nothing() -> None:
    return None


@task
def open_ended(value: Any) -> Any:
    return value


@task
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@task(max_retries=0)
def fail(text: str) -> None:
    raise ValueError(text)


@task
def discard(why: str) -> None:
    raise Discard(why)


@task
def unstorable() -> object:
    return object()


def function(a: int, b: int = 2) -> int:
    return a + b


async def coroutine_function(a: int) -> int:
    return a


def other_function(a: int) -> int:
    return -a


def no_parameters() -> None: ...


def keyword_only(*, a: int) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


anonymous = lambda: None  # noqa: E731


class Holder:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def klass(cls) -> None: ...

    def __call__(self) -> None: ...


def unresolvable(a: NobodyKnowsThis) -> None: ...  # type: ignore[name-defined]  # noqa: F821
