"""Cron expressions on the clock of a time zone. cronsim reads them and walks; what daylight saving does to a walk is
decided here.

An expression that names hours means the clock on the wall: what falls into the hour that a change of the clock skips
comes at the end of it, once, and what falls into the hour that comes twice comes the first time only. One for every
hour (`*/5 * * * *`) goes on through both, as time does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import lru_cache
from zoneinfo import ZoneInfo

SHORTEST, LONGEST = 5, 6  # fields; with six, the first is the second
LONGEST_TEXT = 200  # characters
MISSING = "cron expressions need the package cronsim: pip install 'django-taskq-redis[cron]'"

_SECOND = dt.timedelta(seconds=1)


def parse_zone(name: str) -> ZoneInfo:
    """The time zone of that name; ValueError for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:  # OSError: a name that is a directory
        raise ValueError(f"{name!r:.100} is not a time zone; take one like 'Europe/Berlin'") from error


class CronTimes:
    """The ticks of one expression in one time zone."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        """Raises ValueError for what is no cron expression, or never comes; ImportError where cronsim is missing."""
        self.expression, self.zone = expression, zone
        self._walked, self._every_hour = _analysed(expression)

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        """The first tick later than an aware `moment`, in UTC; None when there is none within fifty years."""
        return next(self.walk(moment), None)

    def walk(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """Every tick later than `moment`, one after the other."""
        moment = moment.astimezone(dt.UTC)  # times of one zone would be compared by what its clocks show
        if self._every_hour:
            start = moment.astimezone(self.zone)
            yield from (tick.astimezone(dt.UTC) for tick in _walk(self._walked, start) if tick > moment)
            return
        last = moment
        wall = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        for naive in _walk(self._walked, wall):
            tick = self._on_the_wall(naive)
            if tick > last:
                yield tick
                last = tick

    def _on_the_wall(self, naive: dt.datetime) -> dt.datetime:
        """When a clock on the wall shows that for the first time; the end of the gap where it never does."""
        tick = naive.replace(tzinfo=self.zone).astimezone(dt.UTC)
        if tick.astimezone(self.zone).replace(tzinfo=None) == naive:
            return tick
        before, after = naive.replace(tzinfo=self.zone, fold=1).astimezone(dt.UTC), tick
        offset = after.astimezone(self.zone).utcoffset()
        while after - before > _SECOND:
            middle = (before + (after - before) / 2).replace(microsecond=0)
            if middle.astimezone(self.zone).utcoffset() == offset:
                after = middle
            else:
                before = middle
        return after


def in_words(expression: str) -> str:
    """The expression as an English sentence, or itself where there is no cronsim to say it."""
    try:
        from cronsim import CronSim
        from cronsim.explain import explain
    except ImportError:
        return expression
    CronSim(expression, dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    return str(explain(expression))


@lru_cache(maxsize=512)
def _analysed(expression: str) -> tuple[str, bool]:
    """The expression in the form that cronsim walks, and whether it is for every hour."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ImportError(MISSING) from error
    parts = expression.split()
    if not SHORTEST <= len(parts) <= LONGEST or len(expression) > LONGEST_TEXT:
        raise ValueError(f"{expression!r:.100} is not a cron expression: five fields, like '*/5 * * * *'")
    try:
        walk = CronSim(expression, dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
        every_hour = len(set(walk.hours)) == 24
    except CronSimError as error:
        raise ValueError(f"{expression!r:.100} is not a cron expression: {error}") from error
    if next(walk, None) is None:
        raise ValueError(f"{expression!r:.100} never comes")
    if every_hour:
        parts[-4] = "*"  # as cronsim likes it: it would take 0-23 for hours that are named
    return " ".join(parts), every_hour


def _walk(expression: str, start: dt.datetime) -> Iterator[dt.datetime]:
    from cronsim import CronSim

    yield from CronSim(expression, start)
