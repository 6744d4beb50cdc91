"""The figures of the whole queue, read from Redis when somebody scrapes."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric

from django_taskq.broker import get_broker
from django_taskq.broker.census import Census, census
from django_taskq.broker.connection import Connections
from django_taskq.broker.location import Location
from django_taskq.conf import get_settings
from django_taskq.exceptions import BrokerRefused, TaskqError
from django_taskq.metrics import families
from django_taskq.worker.exporting import STATES

logger = logging.getLogger("django_taskq")

FRESH = 1.0  # seconds that a look serves further scrapes
PATIENCE = 1.0  # seconds that Redis may take to connect, and to answer

BREAKER_STATES = ("closed", "open", "half open")
WORKER_STATES = (*STATES, "silent", "dead")


class Cluster:
    """A collector. While Redis is away there is `taskq_redis_up 0`, soon, and nothing else; where it answers and
    refuses, for want of permissions, a 1.
    """

    def __init__(self, away: Callable[[], bool] = lambda: False) -> None:
        self._away = away  # known to be away: it is not asked again
        self._lock = threading.Lock()
        self._connections: tuple[Any, Connections] | None = None
        self._seen: Census | None = None
        self._up = True
        self._fresh_until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Without asking Redis: registering must not."""
        return [family.new() for family in families.OF_THE_QUEUE]

    def collect(self) -> Iterator[Metric]:
        """What Redis has now, or had less than a second ago."""
        seen, up = self._look()
        yield families.REDIS_UP.of(float(up))
        if seen is None:
            return
        depth, oldest, paused = families.DEPTH.new(), families.OLDEST.new(), families.PAUSED.new()
        for queue in seen.queues:
            for state in ("ready", "running", "scheduled", "blocked"):
                depth.add_metric((queue.name, state), getattr(queue, state))
            oldest.add_metric((queue.name,), seen.age(queue))
            paused.add_metric((queue.name,), float(queue.paused))
        tasks, breakers = families.TASK_PAUSED.new(), families.BREAKER.new()
        for name in seen.paused_tasks:
            tasks.add_metric((name,), 1.0)
        for breaker in seen.breakers:
            for state in BREAKER_STATES:
                breakers.add_metric((breaker.name, state.replace(" ", "_")), float(breaker.state == state))
        workers, counts = families.WORKERS.new(), Counter(worker.state for worker in seen.workers)
        for state in dict.fromkeys((*WORKER_STATES, *counts)):
            workers.add_metric((state,), counts[state])
        yield from (depth, oldest, paused, tasks, breakers, workers)
        yield families.SCHEDULED.of(sum(queue.scheduled for queue in seen.queues))
        yield families.LAG.of(seen.lag)
        for counter, family in families.TICKS.items():
            ticks = family.new()
            for name, note in seen.periodic.items():
                ticks.add_metric((name,), getattr(note, counter))
            yield ticks

    def up(self) -> bool:
        """Whether Redis answers, or did less than a second ago."""
        return self._look()[1]

    def _look(self) -> tuple[Census | None, bool]:
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._seen, self._up = self._ask()
                self._fresh_until = time.monotonic() + FRESH
            return self._seen, self._up

    def _ask(self) -> tuple[Census | None, bool]:
        if self._away():
            return None, False
        up = False
        try:
            broker, settings = get_broker(), get_settings()
            if self._connections is None or self._connections[0] is not settings:
                hasty = Location(settings, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
                self._connections = settings, Connections(hasty)
            return census(self._connections[1], broker.keys, settings.queues), True
        except TaskqError as error:
            up = isinstance(error, BrokerRefused)
            if self._seen is not None or not self._fresh_until:
                logger.warning("metrics: the queue's own are left out: %s", error)  # once, not at every scrape
        except Exception:
            logger.exception("metrics: Redis cannot be looked at")
        return None, up
