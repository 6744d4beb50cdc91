"""The benchmarks by name, in the order in which they run. Each yields tables of figures as it gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.backlog import backlog
from benchmarks.bench import Bench, Scale
from benchmarks.drain import drain
from benchmarks.figures import Figure
from benchmarks.growth import growth
from benchmarks.latency import latency
from benchmarks.limited import limited
from benchmarks.metered import metered
from benchmarks.outbox import outbox
from benchmarks.pages import pages
from benchmarks.pruning import pruning
from benchmarks.sending import memory, sending
from benchmarks.waiting import coroutines, rest, scheduled

BENCHMARKS: dict[str, Callable[[Bench, Scale], Iterator[list[Figure]]]] = {
    "drain": drain,
    "sending": sending,
    "memory": memory,
    "latency": latency,
    "outbox": outbox,
    "scheduled": scheduled,
    "coroutines": coroutines,
    "limited": limited,
    "rest": rest,
    "metrics": metered,
    "backlog": backlog,
    "growth": growth,
    "pruning": pruning,
    "pages": pages,
}
