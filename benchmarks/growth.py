"""Whether a worker grows with the number of tasks it has run."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure
from benchmarks.processes import resident

STEPS = 10


def growth(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Resident memory after each of ten helpings of --tasks."""
    helping = scale.tasks
    early, late = f"after {helping:,} tasks", f"after {STEPS * helping:,} tasks"
    of_tasks, of_rest = [Figure(f"running tasks, {early}", "MB")], [Figure(f"recording, {early}", "MB")]
    handles = []
    bench.reset()
    with bench.worker(ready=True) as worker:
        [pid] = worker.task_processes()
        for step in range(STEPS):
            handles += fill(helping)
            worker.until_queued(0)
            worker.until_recorded()
            if step == 1:
                of_tasks.append(Figure(f"running tasks, {late}", "MB"))
                of_rest.append(Figure(f"recording, {late}", "MB"))
            others = (resident(child) for child in worker.process.children() if child != pid)
            of_tasks[-1].values = [size for size in [resident(pid)] if size is not None]
            of_rest[-1].values = [max(size for size in others if size is not None)]
            bench.say(f"growth: {(step + 1) * helping:,} tasks")
    bench.account_for(handles)
    yield [*of_tasks, *of_rest]
