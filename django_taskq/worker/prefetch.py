"""How many messages to claim. Pure.

What is claimed should start within about 50 ms: hundreds of tasks of 10 us, one at a time of 10 s.
"""

from __future__ import annotations

import math

HORIZON = 0.05  # seconds
MOST_WAITING = 1_000


def ahead_for(size: int, mean: float | None) -> int:
    """How many deliveries may wait for a pool of `size` places when a task took `mean` seconds lately.

    None where tasks take longer than the horizon, or nobody knows yet: those are claimed for free places only.
    """
    if mean is None or mean > HORIZON:
        return 0
    return math.floor(min(float(MOST_WAITING), size * HORIZON / max(mean, 1e-6)))


def room_for(size: int, busy: int, waiting: int, ahead: int) -> int:
    """How many more deliveries a pool can take, when `busy` places run something and `waiting` deliveries wait.

    None while more than half of what may wait does: a few large claims cost less than many small ones.
    """
    return 0 if waiting > ahead // 2 else max(0, size - busy + ahead - waiting)


def with_batches(wanted: int, share: float, missing: int) -> int:
    """Messages to claim when `wanted` would find room and lately that share (0..1] was for batches.

    Those take up no room while they gather; but no more are claimed for them than are `missing` to complete them.
    """
    if wanted <= 0 or missing <= 0:
        return wanted
    most = wanted + missing
    return most if share >= 1.0 else min(most, int(wanted / (1.0 - share)))


def to_claim(threads: int, loop: int, share_of_async: float | None) -> int:
    """Messages to claim when the pools have room for that many, and lately that share (0..1) was async.

    What kind a message is, is known only when it is here: neither pool may get more than it has room for.
    """
    if share_of_async is None:
        return min(threads, loop)
    wanted = math.inf
    if share_of_async < 1.0:
        wanted = min(wanted, threads / (1.0 - share_of_async))
    if share_of_async > 0.0:
        wanted = min(wanted, loop / share_of_async)
    return int(wanted)
