"""How much of its rate a limit lets through, and whether it ever lets through more."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench, Scale
from benchmarks.figures import Figure
from benchmarks.tasks import hundred_a_second

RATE = 100  # a second
WORKERS = 3
TASKS = 1_000


def limited(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Three workers and one limit, by the first lines of the tasks."""
    reached, most = Figure("100/s, three workers: reached", "/s"), Figure("  most in any second", "starts")
    for number in range(scale.rounds):
        moments = sorted(_measure(bench))
        reached.add((TASKS - 1) / (moments[-1] - moments[0]), float(RATE))
        most.add(float(_most_within(moments, 1.0)), float(RATE))
        bench.say(f"limited, round {number + 1}: {reached.values[-1]:.1f}/s, {most.values[-1]:.0f} in a second")
    yield [reached, most]


def _measure(bench: Bench) -> Sequence[float]:
    bench.reset()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(bench.worker(ready=True)) for _ in range(WORKERS)]
        handles = hundred_a_second.delay_many([((), {})] * TASKS)
        workers[0].wait(lambda: len(bench.rows()) == TASKS, lambda: len(bench.rows()), 0.5)
    bench.account_for(handles)
    return [float(result) for (result,) in bench.rows("result")]


def _most_within(moments: Sequence[float], seconds: float) -> int:
    return max(bisect.bisect_left(moments, start + seconds) - at for at, start in enumerate(moments))
