"""Tasks that wait: for their time, for somebody else's server, or for work to come at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks import processes
from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure
from benchmarks.payload import EMAIL
from benchmarks.tasks import email, nap

AHEAD = 2.0  # seconds at least between the last task's sending and the moment all are due
NAP = 0.1  # seconds
CONCURRENCY = 1000


def scheduled(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Ten thousand tasks (a tenth of --tasks) due at the same moment, and a worker that is asleep until then."""
    count = max(1, scale.tasks // 10)
    first, last = Figure(f"first of {count:,} started after", "s"), Figure(f"last of {count:,} started after", "s")
    for number in range(scale.rounds):
        bench.reset()
        with bench.worker(ready=True) as worker:
            due = float(int(time.time() + AHEAD + count / 10_000) + 1)
            moment = datetime.fromtimestamp(due, UTC)
            handles = email.using(run_after=moment).delay_many([((), EMAIL)] * count)
            worker.until_nothing_is_scheduled()
            worker.until_queued(0)
            worker.until_recorded()
        bench.account_for(handles)
        started = [datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() for row in bench.rows("started_at")]
        first.add(min(started) - due)
        last.add(max(started) - due)
        bench.say(f"scheduled, round {number + 1}: all started after {last.values[-1]:.2f} s")
    yield [first, last]


def coroutines(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Coroutines of 100 ms, a thousand at once in one process: 10,000/s if nothing but the waiting took time."""
    count = max(1, scale.tasks // 5)
    rate = Figure(f"async tasks of {NAP * 1e3:.0f} ms, {CONCURRENCY:,} at once", "/s")
    redis, cpu = Figure("  Redis CPU a task", "us"), Figure("  CPU a task, process that runs tasks", "us")
    for number in range(scale.rounds):
        bench.reset()
        handles = nap.delay_many([((NAP,), {})] * count)
        with bench.worker("--async-concurrency", str(CONCURRENCY)) as worker:
            start = worker.until_queued(count - 1, glance=0.002) - NAP
            before = worker.cpu()
            rate.add(count / (worker.until_queued(0) - start))
            spent = worker.cpu().each(before, count)
            worker.until_recorded()
        redis.add(spent.redis)
        cpu.add(spent.tasks)
        bench.account_for(handles)
        bench.say(f"coroutines, round {number + 1}: {rate.values[-1]:,.0f}/s")
    yield [rate, redis, cpu]


def rest(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """What a worker without work costs: CPU of all its processes, and of the server."""
    worker_share, redis_share = Figure("worker at rest, share of a core", "%"), Figure("Redis meanwhile", "%")
    calls = Figure("commands meanwhile", "/s")
    bench.reset()
    with bench.worker(ready=True) as worker:
        handles = fill(100)  # a worker that has worked: its connections are open, its tasks measured
        worker.until_queued(0)
        worker.until_recorded()
        time.sleep(min(5.0, scale.rest))
        before = _spent(bench, worker.process.pid)
        time.sleep(scale.rest)
        after = _spent(bench, worker.process.pid)
    bench.account_for(handles)
    for figure, was, is_, factor in zip((worker_share, redis_share, calls), before, after, (100, 100, 1), strict=True):
        figure.add(None if was is None or is_ is None else factor * (is_ - was) / scale.rest)
    yield [worker_share, redis_share, calls]


def _spent(bench: Bench, group: int) -> tuple[float | None, float, float]:
    commands = bench.client.info("stats")["total_commands_processed"]
    return processes.cpu_of_group(group), bench.redis_cpu(), float(commands)
