"""The figures of one worker, as its supervisor has added them up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric

from django_taskq.core.outcome import REASONS
from django_taskq.metrics import families
from django_taskq.worker.exporting import View
from django_taskq.worker.tally import Ends, Increments, Series


class Worker:
    """A collector."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """Without samples."""
        return [family.new() for family in families.OF_A_WORKER]

    def collect(self) -> Iterator[Metric]:
        """Now."""
        view = self._view()
        glance, increments = view.glance(), view.increments
        yield from _counters(increments)
        yield from _histograms(increments.ended)
        yield families.BUSY.of(glance.busy)
        yield families.BEAT.of(*(() if glance.beaten is None else (glance.beaten,)))
        yield families.CPU.of(glance.cpu)
        processes, memory = families.PROCESSES.new(), families.MEMORY.new()
        for state, count in glance.states.items():
            processes.add_metric((state,), count)
        for kind, size in glance.memory.items():
            memory.add_metric((kind,), size)
        yield from (processes, memory)


def _counters(increments: Increments) -> Iterator[Metric]:
    sent, processed = families.SENT.new(), families.PROCESSED.new()
    retries, dead = families.RETRIES.new(), families.DEAD.new()
    for series, count in increments.sent.items():
        sent.add_metric(series, count)
    for series, ends in increments.ended.items():
        for state, count in ends.states.items():
            if state != "retried":
                processed.add_metric((*series, state), count)
        for state in {"succeeded", "failed"} - set(ends.states):
            processed.add_metric((*series, state), 0)
        retries.add_metric(series, ends.states["retried"])
    # All from the start: Prometheus does not see the first increase of a series that appears with it.
    for reason in dict.fromkeys((*REASONS, *increments.dead)):
        dead.add_metric((reason,), increments.dead[reason])
    yield from (sent, processed, retries, dead)
    yield families.RECLAIMED.of(increments.reclaimed)


def _histograms(ended: dict[Series, Ends]) -> Iterator[Metric]:
    duration, wait = families.DURATION.new(), families.WAIT.new()
    for series, ends in ended.items():
        families.add_histogram(duration, series, ends.runs)
        families.add_histogram(wait, series, ends.waits)
    yield from (duration, wait)
