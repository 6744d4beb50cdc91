"""How soon an idle worker starts a task."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench, Scale
from benchmarks.figures import Figure, percentile
from benchmarks.payload import EMAIL
from benchmarks.tasks import first_line

PERCENTS = (50, 95, 99)
PAUSE = (0.02, 0.03)  # seconds between two tasks, at random: the worker is asleep again by then


def latency(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """From the call of `delay()` to the first line of the task; the floor blocks in XREADGROUP."""
    figures = [Figure(f"delay() to first line, p{percent}", "ms") for percent in PERCENTS]
    samples = max(1, scale.samples // scale.rounds)
    for number in range(scale.rounds):
        floor = bench.floor("latency", samples)["seconds"]
        seconds = _measure(bench, samples)
        for figure, percent in zip(figures, PERCENTS, strict=True):
            figure.add(1e3 * percentile(seconds, percent), 1e3 * percentile(floor, percent))
        bench.say(f"latency, round {number + 1}: p95 {figures[1].values[-1]:.2f} ms")
    yield figures


def _measure(bench: Bench, samples: int) -> Sequence[float]:
    bench.reset()
    sent: dict[str, float] = {}
    handles = []
    with bench.worker(ready=True) as worker:
        for _ in range(samples):
            clock = time.monotonic()
            handle = first_line.delay(**EMAIL)
            sent[handle.id.replace("-", "")] = clock
            handles.append(handle)
            time.sleep(random.uniform(*PAUSE))
        worker.until_queued(0)
        worker.until_recorded()
    bench.account_for(handles)
    return [float(result) - sent[id] for id, result in bench.rows("id, result")]
