"""What metrics cost: the same queue drained with and without a metrics port that is scraped once a second."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.request
from collections.abc import Iterator

from benchmarks.bench import Bench, BenchmarkFailed, Scale, Worker, fill
from benchmarks.figures import Figure

THREADS = 8
EVERY = 1.0  # seconds; Prometheus' default is 60, and 15 in deploy/prometheus
PORT = re.compile(r"metrics and health at \S+, port (\d+)")


def metered(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """In turn, so that what else the machine does, it does to both; the ratio is what is left of the rate."""
    plain, served = Figure("drain without a port", "/s"), Figure("drain with a port, scraped", "/s")
    cpu = Figure("  CPU a task, process that runs tasks", "us")
    for number in range(scale.rounds):
        rates, spent = {}, {}
        for port in (False, True) if number % 2 else (True, False):
            rates[port], spent[port] = _drain(bench, scale.tasks, port=port)
        plain.add(rates[False])
        served.add(rates[True], rates[False])
        bench.say(f"metrics, round {number + 1}: {rates[True]:,.0f}/s with, {rates[False]:,.0f}/s without")
        cpu.add(spent[True], spent[False])
    yield [plain, served, cpu]


def _drain(bench: Bench, tasks: int, *, port: bool) -> tuple[float, float | None]:
    """Tasks a second, and microseconds of CPU a task in the process that runs them."""
    bench.reset()
    handles = fill(tasks)
    options = ["--threads", str(THREADS), *(("--metrics-port", "0") if port else ())]
    with bench.worker(*options) as worker, _scraping(worker) if port else contextlib.nullcontext():
        start = worker.until_queued(tasks - 1, glance=0.002)
        before = worker.cpu()
        took = worker.until_queued(0) - start
        cpu = worker.cpu().each(before, tasks).tasks
        worker.until_recorded()
    bench.account_for(handles)
    return tasks / took, cpu


@contextlib.contextmanager
def _scraping(worker: Worker) -> Iterator[None]:
    """Reads the worker's metrics once a second; BenchmarkFailed when they are not there."""
    done, pages = threading.Event(), 0

    def scrape() -> None:
        nonlocal pages
        while not done.is_set():
            if found := PORT.search(worker.process.output()):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10).close()
                    pages += 1
            done.wait(EVERY if pages else 0.05)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if not pages:
        raise BenchmarkFailed(f"the metrics were never read:\n{worker.process.output()[-4000:]}")
