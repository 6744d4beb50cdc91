"""The sweep that fires periodic tasks. Every worker's maintenance process runs it, any number at the same moment."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, connections, router

from django_taskq.broker.periodic import Note, Ticks
from django_taskq.exceptions import BrokerUnavailable, QueueFull, Undecryptable
from django_taskq.periodic.firing import fire_due, settled
from django_taskq.periodic.sync import CONFIRM, rows, synchronise
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import lookup
from django_taskq.setbacks import Setbacks

if TYPE_CHECKING:
    from django_taskq.broker import Broker

logger = logging.getLogger("django_taskq.worker")

LONGEST_SLEEP = 2.0  # seconds, after which a change in the admin is seen
AGAIN = 1.0  # seconds, after a tick that could not be sent
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 15.0  # seconds, while the database or Redis is away

_NOTHING = Note()


class Scheduler:
    """Sleeps until the next tick, but not for longer than somebody who edits a schedule wants to wait."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._ticks = broker, Ticks(broker)
        self._synchronised = float("-inf")  # monotonic seconds
        self._setbacks = Setbacks(logger, "scheduler", first=FIRST_BACKOFF, last=LAST_BACKOFF)
        self._said: dict[str, str] = {}  # by periodic task: what is wrong with it, said once

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. While Redis or the database is away it tries again, for ever."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                pause = self.run_once()
                self._setbacks.over()
            except Exception as error:  # noqa: BLE001 - the next round may succeed
                pause = self._failed(error)
        self.close()

    def run_once(self) -> float:
        """One round. Returns the seconds until the next. Raises what Redis and the database raise."""
        asked = time.monotonic()
        now = dt.datetime.fromtimestamp(self._broker.time(), dt.UTC)
        if asked - self._synchronised >= CONFIRM.total_seconds():
            synchronise(now)
            self._synchronised = asked
        active = list(rows().filter(enabled=True, removed_at=None))
        again = self._fire([row for row in active if self._is_due(row, now)], now)
        nexts = [tick for row in active if (tick := self._next(row, now)) is not None]
        pause = AGAIN if again else LONGEST_SLEEP
        if nexts:
            pause = min(pause, (min(nexts) - now).total_seconds() - (time.monotonic() - asked))
        return max(0.0, pause)

    def close(self) -> None:
        """Closes this thread's connection to the database."""
        connections[router.db_for_write(PeriodicTask)].close()

    def _is_due(self, row: PeriodicTask, now: dt.datetime) -> bool:
        tick = self._next(row, settled(row, _NOTHING, now))
        return tick is not None and tick <= now

    def _next(self, row: PeriodicTask, moment: dt.datetime) -> dt.datetime | None:
        try:
            return row.times.after(moment)
        except (ValueError, ImportError) as error:
            self._say(row, f"its schedule cannot be used: {error}")
            return None

    def _fire(self, due: Sequence[PeriodicTask], now: dt.datetime) -> bool:
        """Whether one of them is to be tried again soon. One that cannot be fired does not keep the others waiting."""
        again = False
        for row, note in zip(due, self._ticks.notes([row.name for row in due]), strict=True):
            task = lookup(row.task)
            if task is None:
                self._say(row, f"this process does not know the task {row.task}")
                continue
            try:
                fire_due(self._ticks, row, task, note, now)
                self._said.pop(row.name, None)
            except (BrokerUnavailable, OperationalError, InterfaceError):
                raise
            except Exception as error:  # noqa: BLE001 - arguments that do not fit, a full queue, middleware
                again = True
                kind = type(error).__name__
                told = not task.encrypt or isinstance(error, Undecryptable | QueueFull)  # others may quote arguments
                self._say(row, f"it could not be sent: {kind}" + (f": {error}" if told else ""), kind)
        return again

    def _say(self, row: PeriodicTask, problem: str, kind: str = "") -> None:
        """Once, until it is another problem, of another `kind` where the words differ each time."""
        if self._said.get(row.name) != (kind or problem):
            self._said[row.name] = kind or problem
            logger.error("periodic task %s: %s", row.name, problem)

    def _failed(self, error: Exception) -> float:
        """Seconds until the next round."""
        self.close()
        meaning = ""
        if isinstance(error, OperationalError | InterfaceError):
            meaning = "no periodic task is sent while the database is away"
        elif isinstance(error, BrokerUnavailable):
            meaning = "no periodic task is sent while Redis is away"
        return self._setbacks.met(error, meaning)
