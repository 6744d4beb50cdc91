"""Statistics in and out."""

from __future__ import annotations

from msgspec import Struct

from django_taskq.api.schemas import Request, Time


class StatsQuery(Request, frozen=True):
    """The last so many minutes, brought between 1 and 1,440. Up to 60 come with queues and tasks."""

    minutes: int = 60


class Percentiles(Struct):
    """Seconds within which that share of the attempts waited or ran; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class Counts(Struct):
    """What happened in a span of time. `retried` are attempts, the others tasks; waits and runs are of all attempts."""

    enqueued: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    expired: int
    discarded: int
    wait: Percentiles
    run: Percentiles


class QueueCounts(Struct):
    """One queue's."""

    queue: str
    counts: Counts


class TaskCounts(Struct):
    """One task's in one queue. An empty name stands for those beyond the 500th of a minute."""

    queue: str
    task: str
    counts: Counts


class Depth(Struct):
    """How long a queue was when somebody looked, once in that minute."""

    queue: str
    ready: int
    scheduled: int


class Minute(Struct):
    """One minute."""

    at: Time
    counts: Counts
    depths: list[Depth]


class Stats(Struct, kw_only=True):
    """The last minutes by Redis' clock, the present one included. `tasks`: the 200 with the most attempts."""

    since: Time
    until: Time
    total: Counts
    queues: list[QueueCounts]
    tasks: list[TaskCounts]
    minutes: list[Minute]
