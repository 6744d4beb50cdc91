"""Tasks of `django.tasks`, beside one of our own."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_taskq import BreakerOpen
from django_taskq import task as own_task
from django_taskq.backend import taskq_options
from tests.backend.api import task

if TYPE_CHECKING:
    from decimal import Decimal  # a hint that only a type checker can resolve

gate = threading.Event()


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def add_soon(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return {"args": args, "kwargs": kwargs}


@task
async def echo_soon(*args: Any, **kwargs: Any) -> Any:
    return {"args": args, "kwargs": kwargs}


@task
def hinted(day: str, amount: Decimal) -> list[str]:
    """Its hints must not be followed: `django.tasks` knows no conversions."""
    return [type(day).__name__, type(amount).__name__]


@task(takes_context=True)
def about_itself(context: Any, more: str = "") -> dict[str, Any]:
    result = context.task_result
    result.refresh()
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": result.status,
        "by": result.worker_ids,
        "m": more,
    }


@task(takes_context=True)
async def about_itself_soon(context: Any) -> dict[str, Any]:
    await context.task_result.arefresh()
    return {"id": context.task_result.id, "attempt": context.attempt, "status": context.task_result.status}


@task
@taskq_options(max_retries=0)
def fail(message: str = "no luck") -> None:
    raise ValueError(message)


@task
@taskq_options(max_retries=0)
async def fail_soon() -> None:
    raise ValueError("no luck, soon")


@task(takes_context=True)
@taskq_options(max_retries=5)
def patient(context: Any, failures: int) -> int:
    """Its options in tests/settings.py are stronger than those above."""
    if context.attempt <= failures:
        raise ValueError(f"failure {context.attempt}")
    return context.attempt


@task
@taskq_options(max_retries=0)
def leave(how: str) -> None:
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[how]("bye")


@task
def unserialisable(log: str) -> Any:
    with Path(log).open("a") as file:
        file.write("ran\n")
    return lambda: True


@task
@taskq_options(max_retries=0, timeout=0.2)
def too_long() -> None:
    for _ in range(500):
        time.sleep(0.01)


@task
@taskq_options(max_retries=0, timeout=0.2)
async def too_long_soon() -> None:
    await asyncio.sleep(5)


@task
@taskq_options(expires=0.001)
def short_lived() -> None:
    pass


@task
@taskq_options(outbox=True)
def through_outbox(a: int) -> int:
    return a


running: list[int] = []


@task
@taskq_options(max_concurrency=1, rate_limit="100/s", rate_limit_key="{number}")
def alone(number: int) -> int:
    running.append(number)
    time.sleep(0.02)
    count = len(running)
    running.remove(number)
    return count


@task
def wait_at_gate() -> str:
    gate.wait(10)
    return "through"


def _with_first(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function("first", *args)

    return wrapper


@task
@_with_first
def filled_in(first: str, second: str) -> str:
    """A decorator fills in its first parameter, so callers pass one."""
    return first + second


@own_task
def own(a: int) -> int:
    return a


met: list[str] = []


@task
@taskq_options(max_retries=0)
def meets_an_open_breaker(name: str) -> str:
    """The first time."""
    if name not in met:
        met.append(name)
        raise BreakerOpen(breaker="crm", seconds=0.0)
    return name
