"""What `--queues` says: `a,b` in that order, or `a:6,b:3` by weight."""

from __future__ import annotations

import re
from collections.abc import Collection

HEAVIEST = 1000


def parse_queues(text: str, declared: Collection[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names, and their weights or (); a ValueError says what is wrong."""
    names: list[str] = []
    weights: list[int] = []
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        if name not in declared:
            raise ValueError(f"{name!r} is not declared in TASKQ['QUEUES'] ({', '.join(sorted(declared))})")
        if name in names:
            raise ValueError(f"{name!r} is named twice")
        names.append(name)
        if colon:
            weights.append(_weight(name, weight))
    if weights and len(weights) < len(names):
        raise ValueError(f"{text!r} gives some queues a weight and others none; give all of them one, or none")
    return tuple(names), tuple(weights)


def _weight(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= HEAVIEST:
        raise ValueError(f"the weight of {name!r} must be a whole number from 1 to {HEAVIEST}, not {text!r}")
    return int(text)
