"""Tasks that go through the outbox. Workers import it by TASKQ_TEST_TASKS."""

from __future__ import annotations

from pathlib import Path

from django_taskq import task


@task(outbox=True)
def add(a: int, b: int = 1) -> int:
    return a + b


@task(outbox=True, max_concurrency=1)
def one_by_one(number: int) -> int:
    return number


@task(outbox=True)
def note(path: str, line: str) -> None:
    """Appends a line to a file: what ran, and in which order, is known without asking the queue."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
