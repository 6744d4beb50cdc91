"""Every metric there is: name, kind, labels, help. docs/metrics.md explains them."""

from __future__ import annotations

from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from django_taskq.worker.tally import BOUNDS, Histogram


class Family(NamedTuple):
    """One metric. `new()` is an empty one, to be filled and yielded by a collector."""

    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def new(self) -> Any:
        """Without samples."""
        return self.kind(self.name, self.help, labels=self.labels)

    def of(self, *values: float) -> Any:
        """With one sample, without labels; or none."""
        family = self.new()
        for value in values:
            family.add_metric((), value)
        return family


# Of the whole queue, as Redis has it: the same wherever they are scraped.
REDIS_UP = Family(GaugeMetricFamily, "taskq_redis_up", "1 while Redis answers.")
DEPTH = Family(
    GaugeMetricFamily, "taskq_queue_depth", "Tasks in a queue: ready, running, scheduled, blocked.", ("queue", "state")
)
OLDEST = Family(
    GaugeMetricFamily, "taskq_queue_oldest_age_seconds", "How long the oldest ready task has waited.", ("queue",)
)
PAUSED = Family(GaugeMetricFamily, "taskq_queue_paused", "1 while no worker claims from the queue.", ("queue",))
TASK_PAUSED = Family(GaugeMetricFamily, "taskq_task_paused", "1 for each paused task; nothing for others.", ("task",))
BREAKER = Family(
    GaugeMetricFamily, "taskq_breaker_state", "1 for the state that a circuit breaker is in, 0 for the other two.",
    ("breaker", "state"),
)  # fmt: skip
SCHEDULED = Family(GaugeMetricFamily, "taskq_scheduled", "Tasks that wait for their time, in all queues.")
WORKERS = Family(GaugeMetricFamily, "taskq_workers", "Task processes in the register, by state.", ("state",))
TICKS = {  # by what a note of the broker calls it
    "fired": Family(CounterMetricFamily, "taskq_periodic_sent_total", "Ticks that were sent.", ("periodic",)),
    "late": Family(
        CounterMetricFamily, "taskq_periodic_late_total", "Ticks that were sent more than 5 s late.", ("periodic",)
    ),
    "missed": Family(
        CounterMetricFamily, "taskq_periodic_missed_total", "Ticks that nobody could send in time.", ("periodic",)
    ),
    "overlapped": Family(
        CounterMetricFamily, "taskq_periodic_overlapped_total",
        "Ticks that were left out, because the task of the one before was still on its way.", ("periodic",),
    ),
}  # fmt: skip
LAG = Family(GaugeMetricFamily, "taskq_recorder_lag", "Outcomes that are not in the database yet.")

# Of one process, which sends tasks.
SENT = Family(CounterMetricFamily, "taskq_tasks_enqueued_total", "Calls that the broker accepted.", ("task", "queue"))

# Of one worker, its processes added up.
PROCESSED = Family(
    CounterMetricFamily, "taskq_tasks_processed_total", "Tasks that ended, by how.", ("task", "queue", "status")
)
RETRIES = Family(
    CounterMetricFamily, "taskq_retries_total", "Attempts that failed and are followed by another.", ("task", "queue")
)
DEAD = Family(CounterMetricFamily, "taskq_dead_total", "Tasks that became dead letters.", ("reason",))
DURATION = Family(HistogramMetricFamily, "taskq_task_duration_seconds", "How long attempts took.", ("task", "queue"))
WAIT = Family(
    HistogramMetricFamily, "taskq_task_wait_seconds", "From ready (sent, or due) to the start of an attempt.",
    ("task", "queue"),
)  # fmt: skip
RECLAIMED = Family(
    CounterMetricFamily, "taskq_reclaimed_total", "Deliveries of dead processes that this worker handed on."
)
BUSY = Family(
    GaugeMetricFamily, "taskq_worker_busy_ratio", "Share of threads, or of places for coroutines, in use; the greater."
)
PROCESSES = Family(GaugeMetricFamily, "taskq_worker_processes", "This worker's task processes, by state.", ("state",))
BEAT = Family(GaugeMetricFamily, "taskq_worker_beat_age_seconds", "Since Redis last took this worker's beat.")
MEMORY = Family(
    GaugeMetricFamily, "taskq_worker_resident_memory_bytes", "Resident memory of this worker's processes.", ("process",)
)
CPU = Family(CounterMetricFamily, "taskq_worker_cpu_seconds_total", "CPU time of all of this worker's processes.")

OF_THE_QUEUE = (REDIS_UP, DEPTH, OLDEST, PAUSED, TASK_PAUSED, BREAKER, SCHEDULED, WORKERS, *TICKS.values(), LAG)
OF_A_WORKER = (
    SENT, PROCESSED, RETRIES, DEAD, DURATION, WAIT, RECLAIMED, BUSY, PROCESSES, BEAT, MEMORY, CPU,
)  # fmt: skip

_BOUNDS = [*(repr(bound) for bound in BOUNDS), "+Inf"]


def add_histogram(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    """One series of a histogram."""
    passed, buckets = 0, []
    for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
        passed += count
        buckets.append((bound, float(passed)))
    family.add_metric(labels, buckets, histogram.total)
