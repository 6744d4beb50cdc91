"""What a worker was started with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `manage.py taskq_worker`. Times are seconds."""

    queues: tuple[str, ...]
    ordered: bool = False  # serve queues in the order given, instead of in turn
    weights: tuple[int, ...] = ()  # of the queues; () where they have none
    processes: int = 1
    threads: int = 8
    async_concurrency: int = 200
    burst: bool = False
    max_tasks: int | None = None
    max_memory: int | None = None  # MB
    shutdown_timeout: float = 25.0
    max_outcomes: int | None = None  # None: as much as Redis' memory allows
    metered: bool = False  # processes count what they do, for the supervisor to serve
