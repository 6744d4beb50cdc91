"""A periodic task for workers: it writes down what ran. Imported by TASKQ_TEST_TASKS."""

from __future__ import annotations

import os
from pathlib import Path

from django_taskq import current_task, task


@task(every=1, name="tests.tick")
def tick() -> None:
    with Path(os.environ["TICKS"]).open("a", encoding="utf-8") as file:
        file.write(current_task().id + "\n")
