"""Calls of the scripts that work on one lane: the fixed part, built once per lane, and the messages that are sent."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_taskq.broker.keys import Keys
    from django_taskq.broker.submission import Submission


class LaneCalls:
    """`head` makes keys and first arguments by (queue, priority, share), as broker/lua/lib/lane_keys.lua reads them."""

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

    def admission(self, submission: Submission) -> list[Any]:
        """One message as broker/lua/lib/admit.lua reads it."""
        message, delay, due, expires_in = submission.message, submission.delay, submission.due, submission.expires_in
        deadline_in = submission.deadline_in
        fields = message.fields()
        when = f"+{max(0, delay)}" if delay is not None else "" if due is None else str(due)
        expires = "" if expires_in is None else str(expires_in)
        if deadline_in is not None:
            expires += f" {deadline_in}"
        return [message.id, when, expires, self._keys.idempotency_of(message), len(fields), *fields]
