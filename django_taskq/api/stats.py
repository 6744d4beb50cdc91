"""What happened in the last minutes, up to a day."""

from __future__ import annotations

import datetime as dt

from django_taskq.api.convert import EPOCH
from django_taskq.api.schemas_stats import (
    Counts,
    Depth,
    Minute,
    Percentiles,
    QueueCounts,
    Stats,
    StatsQuery,
    TaskCounts,
)
from django_taskq.broker import get_broker
from django_taskq.broker import statistics as source
from django_taskq.broker.statistics import Activity, Statistics
from django_taskq.conf import get_settings

DETAILED = 60  # minutes
MOST = 1440
MOST_TASKS = 200


def show(query: StatsQuery) -> Stats:
    """Counts and percentiles: of the whole span, of each minute, and up to an hour of each queue and task."""
    broker, wanted = get_broker(), max(1, min(query.minutes, MOST))
    last = int(broker.time() // 60)
    first = last - wanted + 1
    statistics = Statistics(broker)
    if wanted <= DETAILED:
        minutes = statistics.minutes(first, last)
    else:
        minutes = statistics.totals(first, last, sorted(get_settings().queues))
    total, queues, tasks = _added(minutes)
    busiest = sorted(tasks.items(), key=lambda item: (-_attempts(item[1]), item[0]))[:MOST_TASKS]
    return Stats(
        since=_time(first),
        until=_time(last + 1),
        total=_counts(total),
        queues=[QueueCounts(name, _counts(queues[name])) for name in sorted(queues)] if wanted <= DETAILED else [],
        tasks=[TaskCounts(queue, task, _counts(activity)) for (queue, task), activity in busiest],
        minutes=[_minute(minute) for minute in minutes],
    )


def _added(minutes: list[source.Minute]) -> tuple[Activity, dict[str, Activity], dict[tuple[str, str], Activity]]:
    total = Activity()
    queues: dict[str, Activity] = {}
    tasks: dict[tuple[str, str], Activity] = {}
    for minute in minutes:
        total.add(minute.total)
        for queue, activity in minute.queues.items():
            queues.setdefault(queue, Activity()).add(activity)
        for key, activity in minute.tasks.items():
            tasks.setdefault(key, Activity()).add(activity)
    return total, queues, tasks


def _minute(minute: source.Minute) -> Minute:
    depths = [Depth(queue, *depth) for queue, depth in sorted(minute.depths.items())]
    return Minute(_time(minute.minute), _counts(minute.total), depths)


def _counts(of: Activity) -> Counts:
    return Counts(
        of.enqueued, of.succeeded, of.failed, of.retried, of.cancelled, of.expired, of.discarded,
        Percentiles(of.wait(0.5), of.wait(0.95), of.wait(0.99)), Percentiles(of.run(0.5), of.run(0.95), of.run(0.99)),
    )  # fmt: skip


def _attempts(of: Activity) -> int:
    return of.ended + of.retried


def _time(minute: int) -> dt.datetime:
    return EPOCH + dt.timedelta(minutes=minute)
