"""Rates: so many starts in so much time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TEXT = re.compile(r"(\d{1,9})/(\d{1,6})?([smhd])")
MOST = 1_000_000  # starts a second, which is what slots can tell apart
LONGEST = 30 * 86_400.0  # seconds

# Starts are planned this much farther apart than the limit asks for. CLAIM_LATE of it may pass between the planned
# moment and the claim, START_LATE of it between the planned moment and the start as the worker sees it, just before the
# first line of the task, and the rest between that and the first line, without one start too many in any window.
STRETCH = 0.012
CLAIM_LATE, START_LATE = 1 / 2, 2 / 3


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in any `seconds`."""

    count: int
    seconds: float

    def __str__(self) -> str:
        for unit, length in reversed(_UNITS.items()):
            if self.seconds % length == 0:
                number = int(self.seconds // length)
                return f"{self.count}/{number if number > 1 else ''}{unit}"
        return f"{self.count}/{self.seconds:g} s"

    @property
    def interval(self) -> int:
        """Microseconds between two planned starts."""
        return math.ceil(self.seconds * (1 + STRETCH) * 1e6 / self.count)

    @property
    def tolerance(self) -> int:
        """Microseconds by which a claim may be late for a planned start."""
        return int(self.seconds * STRETCH * CLAIM_LATE * 1e6)


def lateness(tolerance: int) -> tuple[int, int]:
    """How late a start may be for its moment, and by how much a later one moves the plan at most, which is the rate's
    span. Microseconds; `tolerance` is that of a Rate."""
    stretch = tolerance / CLAIM_LATE
    return int(stretch * START_LATE), int(stretch / STRETCH)


def parse_rate(value: Any) -> Rate:
    """A Rate of "100/m", "5/s", "3/10s" or (100, timedelta(minutes=1)); a ValueError says what it takes."""
    if isinstance(value, Rate):
        return value
    if isinstance(value, str) and (found := _TEXT.fullmatch(value.replace(" ", ""))):
        count, seconds = int(found[1]), float(int(found[2] or 1) * _UNITS[found[3]])
    elif isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], timedelta):
        count, seconds = value[0] if type(value[0]) is int else 0, value[1].total_seconds()
    else:
        raise ValueError('must be like "100/m", "5/s", "3/10s" (s, m, h, d) or (100, timedelta(minutes=1))')
    if count < 1 or not 0 < seconds <= LONGEST:
        raise ValueError(f"must be 1 or more in a span of up to {LONGEST / 86_400:.0f} days")
    if count / seconds > MOST:
        raise ValueError(f"must be {MOST:,} a second at most")
    return Rate(count, seconds)
