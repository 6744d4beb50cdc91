"""Tasks for tests with real worker processes. TASKQ_TEST_TASKS names further modules of a test's own."""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from pathlib import Path

from django_taskq import task


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def note(path: str, line: str) -> None:
    """Append a line to a file: what ran is known without asking the queue."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@task
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task
async def async_sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task(max_retries=0)
def fail(message: str = "no luck") -> None:
    raise ValueError(message)


for module in filter(None, os.environ.get("TASKQ_TEST_TASKS", "").split(",")):
    importlib.import_module(module)
