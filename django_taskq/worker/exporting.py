"""What a supervisor shows of itself, and to whom: whoever serves its metrics is a layer above this one."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from django_taskq.worker.process_info import cpu, rss
from django_taskq.worker.tally import Increments

if TYPE_CHECKING:
    from django_taskq.worker.children import Child, TaskChild
    from django_taskq.worker.heartbeat import Heartbeat
    from django_taskq.worker.options import WorkerOptions

STATES = ("starting", "running", "quiet", "stopping", "retiring", "killed")


class Glance(NamedTuple):
    """A worker at one moment. `beaten`: seconds since Redis last took its beat, None before that."""

    states: dict[str, int]  # of its task processes
    busy: float  # share of its threads, or of its places for coroutines, that run something: the greater of the two
    beaten: float | None
    redis: bool  # whether Redis answered when it was last asked
    memory: dict[str, int]  # kind of process -> resident bytes
    cpu: float  # seconds that its processes have used, those that are gone included


class View(Protocol):
    """What the exporter asks, whenever it is asked itself."""

    increments: Increments  # everything so far

    @property
    def metrics_token(self) -> bytes | None:
        """What was read since the start."""

    def glance(self) -> Glance:
        """The worker now."""


class Exporter(Protocol):
    """Serves without ever blocking: the supervisor's one thread calls it between other things."""

    def fileno(self) -> int:
        """Readable when `serve` has something to do."""

    def serve(self, view: View) -> None:
        """Does what can be done at once. Never raises."""

    def close(self) -> None:
        """At the end, and in every forked child."""


def glance_at(
    options: WorkerOptions, children: Sequence[TaskChild], maintenance: Child | None, heartbeat: Heartbeat
) -> Glance:
    """The supervisor's own figures; some reads from /proc for each process, no Redis."""
    states = dict.fromkeys(STATES, 0)
    busy_threads = busy_coroutines = 0
    for child in children:
        states[child.state if child.registered or child.state != "running" else "starting"] += 1
        threads, coroutines = child.notes.busy(2 * options.threads)
        busy_threads, busy_coroutines = busy_threads + threads, busy_coroutines + coroutines
    processes = options.processes
    shares = busy_threads / (processes * options.threads), busy_coroutines / (processes * options.async_concurrency)
    pids = {
        "supervisor": [os.getpid()], "task": [child.pid for child in children],
        "maintenance": [maintenance.pid] if maintenance else [],
    }  # fmt: skip
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Glance(
        states, min(1.0, max(shares)), heartbeat.beaten_ago(), not heartbeat.away,
        {kind: sum(rss(pid) for pid in of_kind) for kind, of_kind in pids.items()},
        gone.ru_utime + gone.ru_stime + sum(cpu(pid) for of_kind in pids.values() for pid in of_kind),
    )  # fmt: skip
