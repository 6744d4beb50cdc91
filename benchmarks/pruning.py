"""Whether the recorder keeps up while a million old rows are pruned."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import time
import uuid
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.utils import timezone

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure
from django_taskq.handle import TaskHandle
from django_taskq.models import TaskResult

RATIO = 10  # old rows for each task of a drain
HELPING = 5_000  # tasks; there are always some to be recorded
GLANCE = 0.02  # seconds


def pruning(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """A worker prunes old rows, as it does by itself, and records what it runs; the same without old rows beside it."""
    old = RATIO * scale.tasks
    undisturbed, _, _ = _record(bench, 0, scale.tasks)
    recorded, pruned, longest = _record(bench, old, scale.tasks)
    figures = [
        Figure(f"rows recorded, {old:,} old ones being pruned", "/s"),
        Figure("rows pruned meanwhile", "/s"),
        Figure("longest time without a new row", "s"),
    ]
    figures[0].add(recorded, undisturbed)
    figures[1].add(pruned)
    figures[2].add(longest)
    yield figures


def _record(bench: Bench, old: int, tasks: int) -> tuple[float, float, float]:
    """Rows recorded and pruned a second, and the longest pause between records (s), until the old ones are gone."""
    bench.reset()
    _insert(bench, old)
    handles: list[TaskHandle[Any]] = []
    with bench.worker(ready=True) as worker:
        if old:
            bench.say("pruning: waiting for the pruner")
            worker.wait(lambda: _old_rows(bench) < old, time.time, 0.5)
        start, left = time.perf_counter(), _old_rows(bench)
        recorded = moved = start
        seen, longest, new = 0, 0.0, 0
        look_at = start + 1.0
        while left if old else new < tasks:
            if len(handles) - new < HELPING:
                handles += fill(HELPING)
            time.sleep(GLANCE)
            new = len(handles) - bench.queued() - bench.lag()
            now = time.perf_counter()
            if new > seen:
                longest, seen, moved = max(longest, now - moved), new, now
            if old and now >= look_at:
                left, look_at = _old_rows(bench), now + 1.0
            recorded = now
        took = recorded - start
        worker.until_queued(0)
        worker.until_recorded()
    bench.account_for(handles)
    return new / took, old / took, longest


def _insert(bench: Bench, count: int) -> None:
    """Rows of tasks that ended a month ago."""
    fields = TaskResult._meta.concrete_fields
    row = TaskResult(
        task="old.task", queue="default", status="succeeded", args="[]", kwargs="{}", attempts=1,
        finished_at=timezone.now() - dt.timedelta(days=30),
    )  # fmt: skip
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    key = [field.name for field in fields].index("id")
    places = ", ".join("?" * len(fields))
    names = ", ".join(str(field.column) for field in fields)
    rows = ([*values[:key], uuid.uuid4().hex, *values[key + 1 :]] for _ in range(count))
    with contextlib.closing(sqlite3.connect(bench.database)) as database:
        statement = f"INSERT INTO {TaskResult._meta.db_table} ({names}) VALUES ({places})"
        database.executemany(statement, rows)
        database.commit()


def _old_rows(bench: Bench) -> int:
    with contextlib.closing(sqlite3.connect(bench.database, timeout=30)) as database:
        query = f"SELECT count(*) FROM {TaskResult._meta.db_table} WHERE task = 'old.task'"
        return int(database.execute(query).fetchone()[0])
