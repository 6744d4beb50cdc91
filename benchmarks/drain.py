"""How fast a full queue empties, how fast the rows follow, and what a task costs on each side of the wire."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure

THREADS = 8


def drain(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """One process of eight threads, then two."""
    for processes in (1, 2):
        yield _drain(bench, scale, processes)


def _drain(bench: Bench, scale: Scale, processes: int) -> list[Figure]:
    where = f"{processes} process{'es'[: 2 * (processes > 1)]} x {THREADS} threads"
    rate, redis = Figure(f"{where}: drain", "/s"), Figure("  Redis CPU a task", "us")
    rows, task_cpu = Figure("  rows recorded behind it", "/s"), Figure("  CPU a task, processes that run tasks", "us")
    rest_cpu = Figure("  CPU a task, recorder and supervisor", "us")
    for number in range(scale.rounds):
        floor = bench.floor("drain", scale.tasks, processes, THREADS)
        bench.reset()
        handles = fill(scale.tasks)
        with bench.worker("--processes", str(processes), "--threads", str(THREADS)) as worker:
            start = worker.until_queued(scale.tasks - 1, glance=0.002)
            before = worker.cpu()
            drained = worker.until_queued(0)
            cpu = worker.cpu().each(before, scale.tasks)
            recorded = worker.until_recorded()
            recording = worker.cpu().each(before, scale.tasks)
        bench.account_for(handles)
        rate.add(scale.tasks / (drained - start), floor["rate"])
        rows.add(scale.tasks / (recorded - start))
        redis.add(cpu.redis, floor["redis_us"])
        task_cpu.add(cpu.tasks)
        rest_cpu.add(recording.rest)
        bench.say(f"{where}, round {number + 1}: {rate.values[-1]:,.0f}/s, floor {floor['rate']:,.0f}/s")
    return [rate, rows, redis, task_cpu, rest_cpu]
