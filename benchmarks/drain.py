"""How fast a full queue empties, how fast the rows follow, and what a task costs on each side of the wire."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, Worker, fill
from benchmarks.figures import Figure
from benchmarks.processes import difference

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
            before = _spent(bench, worker)
            drained = worker.until_queued(0)
            after = _spent(bench, worker)
            recorded = worker.until_recorded()
            finally_ = _spent(bench, worker)
        bench.account_for(handles)
        rate.add(scale.tasks / (drained - start), floor["rate"])
        rows.add(scale.tasks / (recorded - start))
        redis.add(_each(after[0], before[0], scale.tasks), floor["redis_us"])
        task_cpu.add(_each(after[1], before[1], scale.tasks))
        rest_cpu.add(_each(finally_[2], before[2], scale.tasks))
        bench.say(f"{where}, round {number + 1}: {rate.values[-1]:,.0f}/s, floor {floor['rate']:,.0f}/s")
    return [rate, rows, redis, task_cpu, rest_cpu]


def _spent(bench: Bench, worker: Worker) -> tuple[float | None, float | None, float | None]:
    return (bench.redis_cpu(), *worker.cpu())


def _each(after: float | None, before: float | None, tasks: int) -> float | None:
    spent = difference(after, before)
    return None if spent is None else 1e6 * spent / tasks
