"""Tasks that the API may send, and one that it may not."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django_taskq import TaskContext, current_task, task


@task(api=True)
def remind(user_id: int, due: dt.date, *, template: str = "hi") -> str:
    return f"{user_id} {due} {template}"


@task(api=True)
def echo(*args: Any, **kwargs: Any) -> None:
    pass


@task(api=True, takes_context=True)
def with_context(context: TaskContext, number: int) -> None:
    pass


@task
def internal(user_id: int) -> None:
    pass


@task(api=True)
def slowly(seconds: float) -> None:
    current_task().progress(1, 4, "looking")
    time.sleep(seconds)
