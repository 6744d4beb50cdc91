"""Whether a long queue is slower than a short one."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure

RATIO = 100  # a million against ten thousand
REPEATED = 5  # such a short measurement is repeated, and the round's figure is the median
GLANCE = 0.001  # seconds


def backlog(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """As many tasks from the front of a queue of a million (ten times --tasks) as from one of ten thousand."""
    deep = 10 * scale.tasks
    shallow = deep // RATIO
    few, many = Figure(f"with {shallow:,} queued", "/s"), Figure(f"with {deep:,} queued", "/s")
    cheap, dear = Figure("  Redis CPU a task", "us"), Figure("  Redis CPU a task", "us")
    for number in range(scale.rounds):
        short = _measure(bench, shallow, shallow, refill=REPEATED)
        long = _measure(bench, deep, shallow, refill=1)
        few.add(short[0])
        cheap.add(short[1])
        many.add(long[0], short[0])
        dear.add(long[1], short[1])
        bench.say(f"backlog, round {number + 1}: {short[0]:,.0f}/s, {long[0]:,.0f}/s")
    yield [few, cheap, many, dear]


def _measure(bench: Bench, depth: int, shallow: int, *, refill: int) -> tuple[float, float]:
    """Medians of tasks a second and of Redis' CPU for each (us). The queue is filled anew `refill` times."""
    rates, costs = [], []
    for repeated in range(REPEATED):
        if repeated < refill:
            bench.reset()
            fill(depth)
        rate, cost = _once(bench, shallow)
        rates.append(rate)
        costs.append(cost)
    return median(rates), median(costs)


def _once(bench: Bench, shallow: int) -> tuple[float, float]:
    """From a fifth to four fifths of the short queue: how a worker starts, or runs dry, is another matter."""
    waiting, fifth = bench.queued(), shallow // 5
    with bench.worker() as worker:
        start = worker.until_queued(waiting - fifth, GLANCE)
        cpu = bench.redis_cpu()
        took = worker.until_queued(waiting - 4 * fifth, GLANCE) - start
        return 3 * fifth / took, 1e6 * (bench.redis_cpu() - cpu) / (3 * fifth)
