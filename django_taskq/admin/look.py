"""What a live page shows: one look at Redis a second, or what was seen last when it is away."""

from __future__ import annotations

import time
import weakref
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured

from django_taskq.admin.shared import forget, shared
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.clock import epoch_seconds
from django_taskq.broker.gates import BreakerState
from django_taskq.broker.health import Health
from django_taskq.broker.inspector import Inspector, QueueState, WorkerState
from django_taskq.conf import get_settings
from django_taskq.core.ids import id_from_str
from django_taskq.exceptions import TaskqError

FRESH = 1  # seconds
UNDECLARED = 50  # queues that TASKQ does not name, but that hold messages: so many are shown
PAUSE = 10.0  # seconds, at most, between two attempts at a Redis that is away
SILENT = 5.0  # seconds without a beat after which a worker is said to be silent


class Look(NamedTuple):
    """Redis at one moment. `error` and `away_since`: it could not be asked, and the rest is what was seen last."""

    at: float  # epoch seconds on Redis' clock; 0: nothing was ever seen
    declared: list[str]
    queues: list[QueueState]
    workers: list[WorkerState]
    lag: int  # outcomes that are not in the database yet
    health: Health | None  # None: Redis does not say
    cancelling: frozenset[str] = frozenset()  # ids of running tasks that have been asked to end
    paused_tasks: frozenset[str] = frozenset()
    breakers: tuple[BreakerState, ...] = ()
    error: str = ""
    away_since: float | None = None

    @property
    def alive(self) -> list[WorkerState]:
        """Workers that beat, or have just started."""
        return [worker for worker in self.workers if not worker.dead and not self.is_silent(worker)]

    def is_silent(self, worker: WorkerState) -> bool:
        """Whether a worker that is not declared dead has missed some beats."""
        return not worker.dead and self.at - (worker.beat or worker.started) > SILENT

    @property
    def lost(self) -> list[WorkerState]:
        """Workers that are dead or silent."""
        return [worker for worker in self.workers if worker.dead or self.is_silent(worker)]

    def serving(self, queue: str) -> list[WorkerState]:
        """Live workers that claim from a queue."""
        return [worker for worker in self.alive if queue in worker.queues and worker.state in ("starting", "running")]


_pauses: weakref.WeakKeyDictionary[Broker, float] = weakref.WeakKeyDictionary()
_seen: weakref.WeakKeyDictionary[Broker, Look] = weakref.WeakKeyDictionary()


def look() -> Look:
    """The present state, at most a second old. Never raises for Redis' sake."""
    broker = get_broker()
    found = shared(broker, "look", FRESH, lambda: _look(broker))
    if not found.error:
        _seen[broker] = found
    return found


def look_again() -> None:
    """After a change."""
    forget(get_broker(), "look")


def _look(broker: Broker) -> Look:
    before = _seen.get(broker) or Look(0.0, list(get_settings().queues), [], [], 0, None)
    if time.monotonic() < _pauses.get(broker, 0.0):
        return before
    started = time.monotonic()
    try:
        return _ask(broker)
    except (TaskqError, ImproperlyConfigured) as error:
        away = before._replace(error=str(error), away_since=before.away_since or time.time())
        _seen[broker] = away
        # Where an attempt takes seconds, because nobody even refuses, not every page waits for one.
        _pauses[broker] = time.monotonic() + min(PAUSE, 2 * (time.monotonic() - started))
        return away


def _ask(broker: Broker) -> Look:
    time_there = broker.connections.execute("TIME")  # first, and without patience: when this fails, nothing works
    declared, inspector = list(get_settings().queues), Inspector(broker)
    workers = inspector.workers()
    return Look(
        at=epoch_seconds(time_there),
        declared=declared,
        queues=inspector.queues([*declared, *_undeclared(broker, declared)]),
        workers=sorted(workers, key=lambda worker: (worker.host, worker.started, worker.id)),
        lag=broker.recorder_lag(),
        health=shared(broker, "health", 10, lambda: _health(inspector)),
        cancelling=_cancelling(broker, [task.id for worker in workers for task in worker.running]),
        paused_tasks=frozenset(inspector.paused_tasks()),
        breakers=tuple(inspector.breakers()),
    )


def _undeclared(broker: Broker, declared: list[str]) -> list[str]:
    """Queues that hold messages which no worker of this project would claim: TASKQ does not name them any more."""
    names = {name.decode("utf-8", "replace") for name in broker.connections.execute("SMEMBERS", broker.keys.ready)}
    return sorted(names.difference(declared))[:UNDECLARED]


def _cancelling(broker: Broker, ids: list[str]) -> frozenset[str]:
    """Which of these have been asked to end, and have not yet."""
    if not ids:
        return frozenset()
    asked = broker.connections.execute("HMGET", broker.keys.cancels, *[id_from_str(id) for id in ids])
    return frozenset(id for id, found in zip(ids, asked, strict=True) if found is not None)


def _health(inspector: Inspector) -> Health | None:
    try:
        return inspector.health()
    except TaskqError:
        return None  # a user of Redis who may not ask for INFO sees the rest all the same
