"""The minutes of the statistics. Those that are over do not change: a process reads each of them once."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from django_taskq.admin.look import Look
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.statistics import Activity, Minute, Statistics
from django_taskq.exceptions import TaskqError

K = TypeVar("K", bound=Hashable)

HOUR, DAY = 60, 24 * 60  # minutes
OPEN = 2  # the newest minutes, which may still change
FRESH = 1.0  # seconds
RECENT = 5  # whole minutes that "now" covers, besides the one under way


class History:
    """The last hour in full, the last day in totals. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._statistics = Statistics(broker)
        self._hour: dict[int, Minute] = {}
        self._day: dict[int, Minute] = {}
        self._sums: tuple[int, dict[tuple[str, str], Activity]] = (0, {})
        self._tasks: tuple[Minute | None, dict[tuple[str, str], Activity]] = (None, {})
        self._read_at = 0.0
        self._lock = threading.Lock()

    def hour(self, now: float) -> list[Minute]:
        """The 60 minutes up to the one under way, at most a second old; `now` on Redis' clock."""
        with self._lock:
            first, last, missing = self._range(self._hour, now, HOUR)
            if last not in self._hour or time.monotonic() - self._read_at > FRESH:
                fresh = self._statistics.minutes(missing, last)
                self._read_at = time.monotonic()
                return self._kept(self._hour, fresh, first, last)
            return [self._hour[minute] for minute in range(first, last + 1)]

    def seen(self) -> list[Minute]:
        """What was read last, for when nothing can be read."""
        with self._lock:
            return [self._hour[minute] for minute in sorted(self._hour)]

    def day(self, now: float, queues: Iterable[str]) -> list[Minute]:
        """The 1,440 minutes up to the one under way, without their tasks."""
        with self._lock:
            first, last, missing = self._range(self._day, now, DAY)
            fresh = self._statistics.totals(missing, last, queues)
            return self._kept(self._day, fresh, first, last)

    def tasks(self, hour: list[Minute]) -> dict[tuple[str, str], Activity]:
        """What each task of each queue did in that hour. Not to be changed; what is over is added up once a minute."""
        over, last = hour[:-OPEN], hour[-1].minute
        with self._lock:
            if self._sums[0] != last:
                self._sums = (last, add_up(pair for minute in over for pair in minute.tasks.items()))
            if self._tasks[0] is not hour[-1]:
                recent = add_up(pair for minute in hour[-OPEN:] for pair in minute.tasks.items())
                for name in recent.keys() & self._sums[1].keys():
                    recent[name].add(self._sums[1][name])
                self._tasks = (hour[-1], self._sums[1] | recent)
            return self._tasks[1]

    @staticmethod
    def _range(kept: dict[int, Minute], now: float, count: int) -> tuple[int, int, int]:
        """First and last minute, and the first that has to be read."""
        last = int(now) // 60
        first = last - count + 1
        missing = next((minute for minute in range(first, last - OPEN + 1) if minute not in kept), last - OPEN + 1)
        return first, last, missing

    @staticmethod
    def _kept(kept: dict[int, Minute], fresh: list[Minute], first: int, last: int) -> list[Minute]:
        kept.update((minute.minute, minute) for minute in fresh)
        for minute in [minute for minute in kept if not first <= minute <= last]:
            del kept[minute]
        return [kept[minute] for minute in range(first, last + 1)]


_histories: weakref.WeakKeyDictionary[Broker, History] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def history_of(broker: Broker) -> History:
    """The process's history of one broker."""
    with _lock:
        if broker not in _histories:
            _histories[broker] = History(broker)
        return _histories[broker]


def add_up(pairs: Iterable[tuple[K, Activity]]) -> dict[K, Activity]:
    """Activities of one name, added."""
    sums: dict[K, Activity] = {}
    for name, activity in pairs:
        if name not in sums:
            sums[name] = Activity()
        sums[name].add(activity)
    return sums


def by_task(activities: Mapping[tuple[str, str], Activity]) -> dict[str, Activity]:
    """What each task did, in whichever queue."""
    return add_up((task, activity) for (_queue, task), activity in activities.items())


class Rates:
    """What happened a minute of late: the minutes of RECENT and the part of the present one that is over."""

    def __init__(self, minutes: list[Minute], now: float) -> None:
        recent = minutes[-RECENT - 1 :]
        self.minutes = len(recent) - 1 + now % 60 / 60
        self.total = add_up((0, minute.total) for minute in recent).get(0, Activity())
        self.queues = add_up(pair for minute in recent for pair in minute.queues.items())

    def entering(self, queue: str) -> float:
        """Tasks that came into a queue, a minute."""
        return self.queues.get(queue, Activity()).enqueued / self.minutes

    def leaving(self, queue: str) -> float:
        """Tasks that ended, a minute."""
        return self.queues.get(queue, Activity()).ended / self.minutes


def clearing(ready: int, entering: float, leaving: float) -> float | None:
    """Seconds until what waits is done at the present rates; infinite when it does not shrink; None: nothing waits."""
    if not ready:
        return None
    return ready / (leaving - entering) * 60 if leaving > entering else float("inf")


def recent_hour(look: Look) -> list[Minute]:
    """The last hour up to a look; what is still known of it when Redis is away."""
    history = history_of(get_broker())
    if look.error:
        return history.seen()
    try:
        return history.hour(look.at)
    except TaskqError:
        return history.seen()
