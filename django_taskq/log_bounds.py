"""How much of a task's own log is kept: TASKQ["CAPTURE_LOGS"]."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from django_taskq.values import close_match, shown

MOST = {"lines": 10_000, "bytes": 262_144}


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The last lines from a level upwards."""

    level: int = logging.INFO
    lines: int = 100
    bytes: int = 16_384


def parse_log_bounds(value: object) -> LogBounds | None:
    """False, True, the name of a level, or a dict with `level`, `lines` and `bytes`. None keeps nothing; ValueError."""
    if isinstance(value, bool):
        return LogBounds() if value else None
    given = value if isinstance(value, Mapping) else {"level": value}
    bounds: dict[str, int] = {}
    for key, bound in given.items():
        if key == "level":
            bounds[key] = _level(bound)
        elif key not in MOST:
            raise ValueError(f"has no key {key!r}.{close_match(key, ('level', *MOST))}")
        elif not isinstance(bound, int) or isinstance(bound, bool) or not 1 <= bound <= MOST[key]:
            raise ValueError(f"must give {key!r} a whole number from 1 to {MOST[key]:,}, not {shown(bound)}.")
        else:
            bounds[key] = bound
    return LogBounds(**bounds)


def _level(value: object) -> int:
    level = logging.getLevelNamesMapping().get(value.upper()) if isinstance(value, str) else None
    if level is None:
        raise ValueError(
            "must be True, False, the name of a level like 'WARNING', or a dict of 'level', 'lines' and 'bytes', "
            f"not {shown(value)}."
        )
    return level
