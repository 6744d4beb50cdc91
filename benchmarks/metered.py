"""What metrics cost: the same queue drained without a metrics port, and with one that is scraped often or seldom."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.request
from collections.abc import Iterator

from benchmarks.bench import Bench, BenchmarkFailed, Scale, Worker, fill
from benchmarks.figures import Figure

THREADS = 8
SELDOM, OFTEN = 15.0, 1.0  # seconds: as deploy/prometheus has it, and fifteen times as often
PORT = re.compile(r"metrics and health at \S+, port (\d+)")


def metered(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """In turn, so that what else the machine does, it does to all; the ratios are to the drain without a port."""
    ways: tuple[float | None, ...] = (None, SELDOM, OFTEN)
    figures = [Figure("drain without a port", "/s"), *(Figure(f"scraped every {way:.0f} s", "/s") for way in ways[1:])]
    cpus = [Figure("  CPU a task, process that runs tasks", "us") for _ in ways]
    for number in range(scale.rounds):
        found = {way: _drain(bench, scale.tasks, way) for way in (ways if number % 2 else ways[::-1])}
        for way, rate, cpu in zip(ways, figures, cpus, strict=True):
            rate.add(found[way][0], None if way is None else found[None][0])
            cpu.add(found[way][1], None if way is None else found[None][1])
        bench.say(f"metrics, round {number + 1}: {', '.join(f'{found[way][0]:,.0f}/s' for way in ways)}")
    yield [figure for pair in zip(figures, cpus, strict=True) for figure in pair]


def _drain(bench: Bench, tasks: int, every: float | None) -> tuple[float, float | None]:
    """Tasks a second, and microseconds of CPU a task in the process that runs them. `every`: None for no port."""
    bench.reset()
    handles = fill(tasks)
    options = ["--threads", str(THREADS), *(() if every is None else ("--metrics-port", "0"))]
    with bench.worker(*options) as worker, _scraping(worker, every) if every else contextlib.nullcontext():
        start = worker.until_queued(tasks - 1, glance=0.002)
        before = worker.cpu()
        took = worker.until_queued(0) - start
        cpu = worker.cpu().each(before, tasks).tasks
        worker.until_recorded()
    bench.account_for(handles)
    return tasks / took, cpu


@contextlib.contextmanager
def _scraping(worker: Worker, every: float) -> Iterator[None]:
    """Reads the worker's metrics, at once and then every so many seconds; BenchmarkFailed when they are not there."""
    done, pages = threading.Event(), 0

    def scrape() -> None:
        nonlocal pages
        while not done.is_set():
            if found := PORT.search(worker.process.output()):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10).close()
                    pages += 1
            done.wait(every if pages else 0.05)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if not pages:
        raise BenchmarkFailed(f"the metrics were never read:\n{worker.process.output()[-4000:]}")
