"""Prunes the records, by age and down to a number of rows: small transactions, and pauses that let the recorder in."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import InterfaceError, OperationalError, connections, router
from django.db.models import QuerySet
from django.utils import timezone

from django_taskq.conf import Settings, get_settings
from django_taskq.models import DeadTask, TaskResult
from django_taskq.setbacks import Setbacks

logger = logging.getLogger(__name__)

BATCH = 500  # rows a transaction; one statement's parameters hold as many keys on every database
EVERY = 60.0  # seconds between rounds; a round that finds nothing costs some index lookups and one count
LAST_BACKOFF = 300.0  # seconds

Rows = QuerySet[TaskResult] | QuerySet[DeadTask]


def prune(
    now: dt.datetime | None = None, *, settings: Settings | None = None, progress: Callable[[int], object] | None = None
) -> dict[str, int]:
    """Deletes what is past its time and what exceeds `RETENTION_MAX_ROWS`; how many rows of which model.

    `progress` is called after each batch with its number of rows; a true answer ends the round early. `now` defaults to
    the present. A dead letter that nobody has dealt with stays as long as failures do, whatever the number of rows.
    """
    now, settings = now or timezone.now(), settings or get_settings()
    deleted = {"TaskResult": 0, "DeadTask": 0}
    for rows, limit in _superfluous(now, settings):
        for count in _delete(rows, limit):
            deleted[rows.model.__name__] += count
            if progress is not None and progress(count):
                return deleted
    return deleted


def _superfluous(now: dt.datetime, settings: Settings) -> Iterator[tuple[Rows, Callable[[], int] | None]]:
    """What to delete, in the order of an index, and what says how many of them at most.

    The excess is counted before each batch: several machines prune, and together they must not delete it several times.
    """
    using = router.db_for_write(TaskResult)
    results, dead = TaskResult.objects.using(using), DeadTask.objects.using(using)
    kept, failed_kept = now - settings.retention, now - settings.retention_failed
    for status in TaskResult.Status.values:
        before = failed_kept if status == TaskResult.Status.FAILED else kept
        yield results.filter(status=status, finished_at__lt=before).order_by("finished_at"), None
    for state in DeadTask.State.values:
        before = failed_kept if state == DeadTask.State.DEAD else kept
        yield dead.filter(state=state, failed_at__lt=before).order_by("failed_at"), None
    yield results.order_by("finished_at"), lambda: max(0, results.count() - settings.retention_max_rows)


def _delete(rows: Rows, limit: Callable[[], int] | None) -> Iterator[int]:
    """Deletes in batches, by primary key: a transaction locks these rows and no range between them."""
    manager: QuerySet[Any] = rows.model._base_manager.using(rows.db)
    while wanted := BATCH if limit is None else min(BATCH, limit()):
        keys = list(rows.values_list("pk", flat=True)[:wanted])
        if keys:
            count, _ = manager.filter(pk__in=keys).delete()
            yield count
        if len(keys) < wanted:
            return


class Pruner:
    """Prunes every minute."""

    def __init__(self) -> None:
        self._setbacks = Setbacks(logger, "pruner", first=EVERY, last=LAST_BACKOFF)

    def run(self, stop: threading.Event) -> None:
        """Prunes until `stop` is set; an error costs nothing but time."""
        pause = EVERY / 4
        while not stop.wait(pause):
            try:
                self.run_once(stop)
            except Exception as error:  # noqa: BLE001 - the next round may succeed
                pause = self._failed(error)
            else:
                self._setbacks.over()
                pause = EVERY
        connections[router.db_for_write(TaskResult)].close()

    def run_once(self, stop: threading.Event | None = None) -> dict[str, int]:
        """One round; how many rows of which model were deleted."""
        stop = stop or threading.Event()
        began = time.monotonic()

        def rest(_: int) -> bool:
            """As long as the batch took: at most half of the time goes to pruning."""
            nonlocal began
            stopped = stop.wait(min(1.0, time.monotonic() - began))
            began = time.monotonic()
            return stopped

        deleted = prune(progress=rest)
        if any(deleted.values()):
            logger.info("pruner: deleted %(TaskResult)d results and %(DeadTask)d dead letters", deleted)
        return deleted

    def _failed(self, error: Exception) -> float:
        """Seconds until the next round."""
        connections[router.db_for_write(TaskResult)].close()
        away = isinstance(error, OperationalError | InterfaceError)
        return self._setbacks.met(error, "no old rows are deleted while the database is away" if away else "")
