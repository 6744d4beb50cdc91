"""Points in time and spans as people give them: datetimes, timedeltas, seconds."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.utils import timezone

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_LONGEST = dt.timedelta(days=36_500)


class Moment(NamedTuple):
    """A point in time in ms on Redis' clock: from the moment of sending, or since the epoch."""

    ms: int
    relative: bool


def parse_span(value: Any, what: str) -> dt.timedelta:
    """A span; ValueError, which says that it must be `what`."""
    if isinstance(value, dt.timedelta):
        span = value
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        span = dt.timedelta(seconds=max(min(value, 1e10), -1e10))
    else:
        raise ValueError(f"must be {what}")
    if span > _LONGEST:
        raise ValueError(f"must be less than {_LONGEST.days} days")
    return span


def parse_moment(value: Any) -> Moment | None:
    """What `run_after` and the like take; ValueError."""
    if value is None:
        return None
    if not isinstance(value, dt.datetime):
        span = parse_span(value, "a datetime, a timedelta, seconds or None")
        return Moment(max(0, -(-span // _MILLISECOND)), relative=True)
    if timezone.is_naive(value):
        if django_settings.USE_TZ:
            raise ValueError("has no time zone; with USE_TZ use an aware datetime, like django.utils.timezone.now()")
        value = timezone.make_aware(value, timezone.get_default_timezone())
    # 0 would mean "none" on the wire
    return Moment(max(1, -((_EPOCH - value) // _MILLISECOND)), relative=False)


def moment_of_ms(ms: int | None) -> dt.datetime | None:
    """The datetime, in UTC, that `parse_moment` turns into so many ms since the epoch; None beyond the year 9999."""
    try:
        return None if ms is None else _EPOCH + ms * _MILLISECOND
    except OverflowError:
        return None
