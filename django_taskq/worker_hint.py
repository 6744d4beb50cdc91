"""A word to the developer whose tasks wait because no worker runs: once, and only under `runserver` with DEBUG."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

from django.conf import settings

from django_taskq.broker import get_broker
from django_taskq.broker.workers import Workers
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.signals import task_enqueued

logger = logging.getLogger("django_taskq")

WATCHED = 3.0  # seconds; a worker that is alive beats every second
UID = "django_taskq.worker_hint"
HINT = "No worker is running, so tasks wait in Redis. Start one in another terminal: python manage.py taskq_worker"


def watch_for_workers() -> None:
    """Looks once, after the first task was sent."""
    if settings.DEBUG and "runserver" in sys.argv[1:2]:
        task_enqueued.connect(_first_task, dispatch_uid=UID)


def _first_task(**_: Any) -> None:
    """The request that sent it does not wait for the look."""
    if task_enqueued.disconnect(dispatch_uid=UID) and not get_settings().is_local:
        threading.Thread(target=look, name="taskq-hint", daemon=True).start()


def look(seconds: float = WATCHED) -> None:
    """Warns unless a worker beats within so many seconds."""
    try:
        broker = get_broker()
        workers = Workers(broker.connections, broker.keys)
        before = workers.counters()
        time.sleep(seconds)
        after = workers.counters()
    except TaskqError as error:
        logger.debug("nobody knows whether a worker is running: %s", error)
        return
    # A worker that was killed stays in the register until another one finds out.
    if all(before.get(worker) == beats for worker, beats in after.items()):
        logger.warning(HINT)
