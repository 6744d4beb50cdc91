"""Purging from a page: as much as fits into a request, so that no time-out cuts it off in silence."""

from __future__ import annotations

import time
from typing import NamedTuple

from django_taskq.broker import Broker
from django_taskq.broker.inspector import Inspector
from django_taskq.exceptions import TaskqError

AT_MOST = 15.0  # seconds; servers before Django cut a request off after 30, as a rule


class Purged(NamedTuple):
    """How many tasks were cancelled, whether there are more, and what went wrong."""

    tasks: int
    more: bool = False
    error: str = ""


class _Enough(Exception):
    """The time is up."""


def purge(broker: Broker, queue: str) -> Purged:
    """Cancels what waits in a queue or is scheduled for it, for AT_MOST seconds."""
    deadline, count = time.monotonic() + AT_MOST, 0

    def progress(done: int) -> None:
        nonlocal count
        count = done
        if time.monotonic() > deadline:
            raise _Enough

    try:
        return Purged(Inspector(broker).purge(queue, progress=progress))
    except _Enough:
        return Purged(count, more=True)
    except TaskqError as error:
        return Purged(count, error=str(error))
