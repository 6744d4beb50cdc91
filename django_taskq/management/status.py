"""One look at everything that `taskq_status` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db import DatabaseError, InterfaceError

from django_taskq.broker.gates import BreakerState
from django_taskq.broker.inspector import Inspector, QueueState, WorkerState
from django_taskq.conf import get_settings
from django_taskq.management.periodic import look_at_periodic
from django_taskq.outbox import Backlog, backlogs

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.periodic.status import Status


class Seen(NamedTuple):
    """What there is to show."""

    now: float  # on Redis' clock, epoch seconds
    lag: int  # outcomes that are not recorded yet
    queues: list[QueueState]
    workers: list[WorkerState]
    outboxes: list[Backlog]
    periodic: list[Status] | None  # None where the database cannot be asked
    paused_tasks: list[str]
    breakers: list[BreakerState]


def look(broker: Broker) -> Seen:
    """One look at Redis and the database; raises what Redis raises."""
    inspector = Inspector(broker)
    now, lag = broker.time(), broker.recorder_lag()
    queues, workers = inspector.queues(get_settings().queues), inspector.workers()
    return Seen(
        now, lag, queues, workers, _backlogs(), look_at_periodic(now), inspector.paused_tasks(), inspector.breakers()
    )


def _backlogs() -> list[Backlog]:
    """Nothing where the database is away: what is in Redis can be told all the same."""
    try:
        return backlogs()
    except (DatabaseError, InterfaceError):
        return []
