"""How soon a committed task starts, and how fast an outbox empties after an outage. SQLite, as everywhere here."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence

from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings

from benchmarks.bench import Bench, Scale
from benchmarks.figures import Figure, percentile
from benchmarks.latency import PAUSE, PERCENTS
from benchmarks.payload import EMAIL
from benchmarks.tasks import first_line
from django_taskq.broker import get_broker
from django_taskq.handle import TaskHandle
from django_taskq.models import OutboxEntry
from django_taskq.relay import Relay

BACKLOG = 10_000
CALLS = 500  # in one transaction


def outbox(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Latency, beside that of `delay()` without the outbox; and throughput of one relay, without workers."""
    figures = [Figure(f"commit to first line, p{percent}", "ms") for percent in PERCENTS]
    samples = max(1, scale.samples // scale.rounds)
    for number in range(scale.rounds):
        plain = _measure(bench, samples, _delay)
        with through_outbox():
            seconds = _measure(bench, samples, _commit)
        for figure, percent in zip(figures, PERCENTS, strict=True):
            figure.add(1e3 * percentile(seconds, percent), 1e3 * percentile(plain, percent))
        bench.say(f"outbox, round {number + 1}: p95 {figures[1].values[-1]:.2f} ms")
    yield figures
    count = min(BACKLOG, scale.tasks)
    written, sent = (
        Figure(f"{count:,} written, {CALLS} a transaction", "/s"),
        Figure(f"{count:,} sent by a relay", "/s"),
    )
    for number in range(scale.rounds):
        _reset(bench)
        with through_outbox():
            written.add(count / _write(count))
            sent.add(count / _relay())
        bench.say(f"outbox, round {number + 1}: {sent.values[-1]:,.0f}/s sent")
    yield [written, sent]


@contextlib.contextmanager
def through_outbox() -> Iterator[None]:
    """TASKQ["OUTBOX"], here and for the workers that are started meanwhile; others have no relay at work."""
    os.environ["OUTBOX"] = "1"
    try:
        with override_settings(TASKQ={**settings.TASKQ, "OUTBOX": True}):
            yield
    finally:
        del os.environ["OUTBOX"]


def _reset(bench: Bench) -> None:
    """As bench.reset(), and this process writes to the database that the workers see."""
    connection.close()
    bench.reset()
    connection.settings_dict["NAME"] = str(bench.database)


def _delay() -> tuple[TaskHandle[float], float]:
    began = time.monotonic()
    return first_line.delay(**EMAIL), began


def _commit() -> tuple[TaskHandle[float], float]:
    """A view: the clock starts when it commits."""
    with transaction.atomic():
        handle = first_line.delay(**EMAIL)
        began = time.monotonic()
    return handle, began


def _measure(bench: Bench, samples: int, send: Callable[[], tuple[TaskHandle[float], float]]) -> Sequence[float]:
    _reset(bench)
    sent: dict[str, float] = {}
    handles = []
    with bench.worker(ready=True) as worker:
        send()[0].get(timeout=30)  # the first one, from which on a relay listens
        for _ in range(samples):
            handle, began = send()
            sent[handle.id.replace("-", "")] = began
            handles.append(handle)
            time.sleep(random.uniform(*PAUSE))
        for handle in handles:
            handle.get(timeout=30)
        worker.until_recorded()
    rows = {id: float(result) for id, result in bench.rows("id, result")}
    return [rows[id] - began for id, began in sent.items()]


def _write(count: int) -> float:
    """As a web process does; seconds."""
    began = time.perf_counter()
    for first in range(0, count, CALLS):
        first_line.delay_many([((), EMAIL)] * min(CALLS, count - first))
    return time.perf_counter() - began


def _relay() -> float:
    """Empties the outbox; seconds."""
    OutboxEntry.objects.update(created_at="2020-01-01T00:00:00Z")  # as after an outage: each may have been sent before
    relay = Relay(get_broker(), "default")
    began = time.perf_counter()
    while relay.run_once():
        continue
    spent = time.perf_counter() - began
    relay.close()
    return spent
