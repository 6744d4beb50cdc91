"""What taskq_health asks: each probe is one sentence and whether it is good news."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from django.db import DatabaseError, InterfaceError, connections

from django_taskq.broker.census import SILENT, Census


class Verdict(StrEnum):
    """GOOD or not, or UNKNOWN: what would have to be asked does not answer."""

    GOOD = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


class Probe(NamedTuple):
    """One answer."""

    name: str
    verdict: Verdict
    text: str


def live(census: Census | None, pid: int | None) -> Probe:
    """A task process of this machine beats. While Redis is away nobody can tell, and a restart would not help: good."""
    if census is None:
        return Probe("live", Verdict.GOOD, "Redis is away: whether a worker beats cannot be told, and it would wait")
    host = socket.gethostname()
    own = [worker for worker in census.workers if worker.host == host and pid in (None, worker.supervisor)]
    of = host if pid is None else f"{host} with process id {pid}"
    beating = [worker for worker in own if worker.age is not None and worker.state not in ("silent", "dead")]
    if beating:
        age = min(worker.age or 0.0 for worker in beating)
        return Probe(
            "live", Verdict.GOOD, f"task processes of {of} that beat: {len(beating)}, the last {age:.1f} s ago"
        )
    if own:
        return Probe("live", Verdict.BAD, f"no task process of {of} has beaten for {SILENT:.0f} s")
    return Probe("live", Verdict.BAD, f"no worker of {of} is registered")


def redis_answers(census: Census | None, error: str) -> Probe:
    """It did, or why not."""
    if census is None:
        return Probe("redis", Verdict.UNKNOWN, error)
    return Probe("redis", Verdict.GOOD, "Redis answers")


def database_answers(alias: str) -> Probe:
    """The database of the records; opens a connection and closes it."""
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        return Probe("database", Verdict.UNKNOWN, f"the database {alias!r} cannot be used: {error}")
    finally:
        connection.close()
    return Probe("database", Verdict.GOOD, f"the database {alias!r} answers")


def depths(census: Census, limits: Mapping[str, int]) -> list[Probe]:
    """One for each queue with a limit."""
    found = []
    for queue in census.queues:
        if queue.name in limits:
            verdict = Verdict.GOOD if queue.ready <= limits[queue.name] else Verdict.BAD
            text = f"{queue.ready} tasks are ready in {queue.name}, {limits[queue.name]} may be"
            found.append(Probe(f"depth {queue.name}", verdict, text))
    return found


def ages(census: Census, limit: float) -> Probe:
    """Of the queue that is worst."""
    queue = max(census.queues, key=census.age)
    age = census.age(queue)
    verdict = Verdict.GOOD if age <= limit else Verdict.BAD
    text = f"the oldest ready task, in {queue.name}, has waited {age:.1f} s, {limit:g} s may be"
    return Probe("age", verdict, text if age else "nothing waits")
