"""Whether a long queue is slower than a short one."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure

RATIO = 100  # a million against ten thousand
GLANCE = 0.001  # seconds


def backlog(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """As many tasks from the front of a queue of a million (ten times --tasks) as from one of ten thousand."""
    deep = 10 * scale.tasks
    shallow = deep // RATIO
    measured = shallow * 8 // 10  # not to the last: a queue that runs dry is another matter
    few, many = Figure(f"with {shallow:,} queued", "/s"), Figure(f"with {deep:,} queued", "/s")
    for number in range(scale.rounds):
        for depth, figure in ((shallow, few), (deep, many)):
            bench.reset()
            fill(depth)
            with bench.worker() as worker:
                start = worker.until_queued(depth - 1, GLANCE)
                figure.add(measured / (worker.until_queued(depth - measured, GLANCE) - start))
        many.reference.append(few.values[-1])
        bench.say(f"backlog, round {number + 1}: {few.values[-1]:,.0f}/s, {many.values[-1]:,.0f}/s")
    yield [few, many]
