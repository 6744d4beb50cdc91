"""How many tasks one thread sends, and what Redis keeps of each."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.bench import Bench, Scale, fill
from benchmarks.figures import Figure
from benchmarks.payload import EMAIL
from benchmarks.tasks import email

FEW = 10_000
LATER = 3600  # seconds


def sending(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """`delay()` and `delay_many()`; the floor sends through redis-py's public interface, one by one and by 500."""
    single, many = Figure("delay(), one thread", "/s"), Figure("delay_many(), one thread", "/s")
    singles = max(1, scale.tasks // 10)
    for number in range(scale.rounds):
        floor = bench.floor("send", scale.tasks)
        bench.reset()
        fill(10)  # connected, and the scripts loaded
        clock = time.perf_counter()
        for _ in range(singles):
            email.delay(**EMAIL)
        single.add(singles / (time.perf_counter() - clock), floor["single"])
        bench.reset()
        fill(10)
        clock = time.perf_counter()
        fill(scale.tasks)
        many.add(scale.tasks / (time.perf_counter() - clock), floor["bulk"])
        bench.say(f"sending, round {number + 1}: {single.values[-1]:,.0f}/s, {many.values[-1]:,.0f}/s")
    yield [single, many]


def memory(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Bytes that the server needs more for each queued task, and for each scheduled one."""
    figures = []
    for count in sorted({min(FEW, scale.tasks), scale.tasks}):
        floor = bench.floor("send", count)
        queued, scheduled = Figure(f"{count:,} queued", "bytes"), Figure(f"{count:,} scheduled", "bytes")
        bench.reset()
        before = bench.memory()
        fill(count)
        queued.add((bench.memory() - before) / count, floor["bytes"])
        bench.reset()
        before = bench.memory()
        email.using(run_after=LATER).delay_many([((), EMAIL)] * count)
        scheduled.add((bench.memory() - before) / count)
        figures += [queued, scheduled]
    yield figures
