"""Whether a worker grows with the number of tasks it has run."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure
from benchmarks.processes import resident

STEPS = 10
SHOWN = (0, 4, 9)


def growth(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Resident memory after each of ten helpings of --tasks."""
    helping = scale.tasks
    of_tasks, of_rest = [], []
    handles = []
    bench.reset()
    with bench.worker(ready=True) as worker:
        [pid] = worker.task_processes()
        for step in range(STEPS):
            handles += fill(helping)
            worker.until_queued(0)
            worker.until_recorded()
            so_far = f"{(step + 1) * helping:,} tasks"
            if step in SHOWN:
                others = [resident(child) for child in worker.process.children() if child != pid]
                of_tasks.append(Figure(f"running tasks, after {so_far}", "MB"))
                of_tasks[-1].add(resident(pid))
                of_rest.append(Figure(f"recording, after {so_far}", "MB"))
                of_rest[-1].add(max((size for size in others if size is not None), default=None))
            bench.say(f"growth: {so_far}")
    bench.account_for(handles)
    yield [*of_tasks, *of_rest]
