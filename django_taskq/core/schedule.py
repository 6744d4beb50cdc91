"""When a periodic task is due, and what becomes of the ticks that nobody fired in time. Pure: now is an argument."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice, takewhile
from typing import NamedTuple, Protocol

from django_taskq.core.ids import id_at

ON_TIME = dt.timedelta(seconds=60)  # a tick that is no older is fired, whatever the policy
LATE = dt.timedelta(seconds=5)  # one that is fired later than this is counted as late, and logged
MOST_MISSED = 1000  # ticks that are counted one by one
SHORTEST = dt.timedelta(seconds=1)  # between two ticks
LONGEST = dt.timedelta(days=3660)
ONCE, SKIP = "once", "skip"
CATCH_UP = (ONCE, SKIP)

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_WINDOWS = (dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=40), dt.timedelta(days=400))


class Times(Protocol):
    """The ticks of a schedule."""

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        """The first tick later than an aware `moment`, in UTC; None when there is none."""

    def walk(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """Every tick later than `moment`, one after the other."""


class Interval:
    """A tick at every whole multiple of a span since the epoch, so that all processes agree without asking."""

    def __init__(self, span: dt.timedelta) -> None:
        """Raises ValueError for a span that is too short, too long, or not of whole milliseconds."""
        if not SHORTEST <= span <= LONGEST or span % _MILLISECOND:
            raise ValueError(f"must be 1 second or more, and at most {LONGEST.days} days, in whole milliseconds")
        self.span = span

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first tick later than `moment`."""
        return _EPOCH + self.span * ((moment - _EPOCH) // self.span + 1)

    def walk(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """Every tick later than `moment`, one after the other."""
        tick = self.after(moment)
        while True:
            yield tick
            tick += self.span


class Due(NamedTuple):
    """What is to be done now: ticks to fire, in order, and ticks that are given up."""

    ticks: list[dt.datetime]
    missed: int  # given up; from MOST_MISSED on: at least so many
    passed: dt.datetime | None = None  # the last one of those


def due(times: Times, since: dt.datetime, now: dt.datetime, catch_up: str) -> Due:
    """Of the ticks later than `since` and not later than `now`: those up to a minute old are fired, each of them.

    Older ones were missed. Where nothing newer is fired and `catch_up` is "once", the last of them is fired after all.
    """
    edge = max(since, now - ON_TIME)
    ticks = list(takewhile(lambda tick: tick <= now, times.walk(edge)))
    old = list(islice(takewhile(lambda tick: tick <= edge, times.walk(since)), MOST_MISSED)) if since < edge else []
    if not old:
        return Due(ticks, 0)
    last = old[-1] if len(old) < MOST_MISSED else _last(times, old[-1], edge)
    if ticks or catch_up == SKIP:
        return Due(ticks, len(old), last)
    return Due([last], len(old) - 1, old[-2] if len(old) > 1 else None)


def _last(times: Times, known: dt.datetime, until: dt.datetime) -> dt.datetime:
    """The last tick up to `until`, found from near there: `known` may be years ago."""
    for window in _WINDOWS:
        found = known
        for tick in times.walk(max(known, until - window)):
            if tick > until:
                break
            found = tick
        if found != known:
            return found
    return known


def upcoming(times: Times, moment: dt.datetime, count: int) -> list[dt.datetime]:
    """The next so many ticks after `moment`, in UTC."""
    return list(islice(times.walk(moment), count))


def tick_ms(tick: dt.datetime) -> int:
    """A tick as epoch ms."""
    return (tick - _EPOCH) // _MILLISECOND


def moment_of(ms: int) -> dt.datetime:
    """Epoch ms as a time in UTC."""
    return _EPOCH + ms * _MILLISECOND


def id_of_tick(name: str, tick: dt.datetime) -> bytes:
    """The id of the task that a tick of the periodic task `name` sends: everybody comes to the same."""
    return id_at(tick_ms(tick), _digest(name, tick, b"id"))


def jitter_of(name: str, tick: dt.datetime, most: float) -> float:
    """Seconds, from 0 to `most`, by which a tick starts later: everybody comes to the same."""
    return most * int.from_bytes(_digest(name, tick, b"jitter")[:6], "big") / 2**48


def _digest(name: str, tick: dt.datetime, purpose: bytes) -> bytes:
    return blake2b(f"{tick_ms(tick)} {name}".encode(), digest_size=16, person=purpose).digest()
