"""Tasks as each app wants them declared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import overseer
from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron
from django.tasks import task
from django_periodic_tasks import scheduled_task


def note(line: str) -> None:
    with Path(os.environ["DATA_DIR"], "notes").open("a") as file:
        file.write(f"{line}\n")


@task
def succeed(number: int) -> int:
    return number + 1


@task
def fail(number: int) -> None:
    raise ValueError(f"no {number}")


@cron(IntervalTrigger(seconds=1))
@task
def every_second() -> None:
    note("every second")


@scheduled_task(cron="* * * * *", name="every-minute", kwargs={"what": "minute"})
@task
def every_minute(what: str) -> None:
    note(what)


@overseer.task(retries=2, backoff="constant", backoff_base=0, jitter=False, takes_context=True)
def stubborn(context: Any) -> str:
    from overseer.models import Run

    if Run.objects.filter(job__task_path=stubborn.module_path).count() < 3:
        raise ValueError("not yet")
    return "at last"
