"""The fixed part of every call of a lane script: its keys and first arguments, built once per lane."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_taskq.broker.keys import Keys


class LaneCalls:
    """Heads of script calls by (queue, priority, share), as broker/lua/lib/lane_keys.lua reads them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.head = lru_cache(maxsize=4096)(self._head)

    def _head(self, queue: str, priority: int, share: str = "") -> tuple[str | int, ...]:
        keys = self._keys
        of_queue = keys.queue(queue)
        names = (
            keys.index, keys.ready, keys.due, keys.outcomes, keys.cancels, keys.totals,
            keys.lane(queue, priority, share), of_queue.lanes, of_queue.scheduled, of_queue.messages,
            of_queue.sleepers, of_queue.wake,
        )  # fmt: skip
        level = f"{priority}:{share}" if share else str(priority)
        return (len(names), *names, queue, level, keys.done_prefix, keys.stats_prefix)
