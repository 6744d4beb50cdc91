"""Nothing imports this but a worker that is to run it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django_taskq.backend import TaskqBackend
from tests.backend.api import base, task


@task
def found() -> str:
    return "found"


@task
async def found_soon() -> str:
    return "found soon"


@task
def hold() -> str:
    time.sleep(1)
    return "held"


def add(a: int, b: int) -> int:
    return a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTask(base.Task):
    """What an app may make of a Task."""

    note: str = ""


class OwnBackend(TaskqBackend):
    task_class = OwnTask
