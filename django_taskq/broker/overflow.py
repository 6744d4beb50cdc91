"""What a producer does at a queue that has reached its maximum length: wait for room, make room, or give up."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django_taskq.broker.found import Found, ended_waiting, found_of
from django_taskq.core.activity import activity
from django_taskq.core.fields import pack_fields
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.core.outcome import encode_outcome
from django_taskq.core.states import State
from django_taskq.exceptions import QueueFull
from django_taskq.queue_options import DROP_OLDEST, QueueOptions

if TYPE_CHECKING:
    from django_taskq.broker.keys import Keys

logger = logging.getLogger("django_taskq")

FULL = -1  # what enqueue.lua's reply begins with
DROPPED = "dropped"  # the reason of such a dead letter
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25  # seconds between two attempts while waiting for room
LONGEST_STRUGGLE = 8.0  # seconds; others may take the room that was made

_listener: Callable[[Message, str], None] | None = None


def tell_of_dropped(listener: Callable[[Message, str], None]) -> None:
    """`listener` is called with each message that was dropped here, and its queue. (Signals are a layer above.)"""
    global _listener
    _listener = listener


class Overflow:
    """For the queues of one broker. Raises QueueFull, and what sending raises."""

    def __init__(self, keys: Keys, queues: Mapping[str, QueueOptions]) -> None:
        self._keys = keys
        self._bounded = {name: options for name, options in queues.items() if options.max_length is not None}

    def bound(self, queue: str) -> int | str:
        """The queue's maximum length as the scripts take it."""
        options = self._bounded.get(queue)
        return "" if options is None or options.max_length is None else options.max_length

    def drops(self, queue: str) -> bool:
        """Whether the queue's oldest tasks make room."""
        options = self._bounded.get(queue)
        return options is not None and options.overflow == DROP_OLDEST

    def wait_for_room(self, queue: str, reply: Sequence[Any], patience: float | None, again: Callable[[], Any]) -> Any:
        """What enqueue.lua replies once there is room; `again` asks it. `patience`: seconds, None for the queue's."""
        options = self._bounded[queue]
        deadline = time.monotonic() + (options.enqueue_timeout if patience is None else patience)
        pause = FIRST_PAUSE
        while reply and reply[0] == FULL:
            _, depth, new = reply
            left = deadline - time.monotonic()
            if left <= 0 or new > (options.max_length or 0):
                raise self.full(queue, depth, new)
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(LONGEST_PAUSE, pause * 2)
            reply = again()
        return reply

    def make_room(
        self, head: Sequence[Any], messages: Sequence[Any], send: Callable[[list[Any]], Any], now: Callable[[], float]
    ) -> Any:
        """Calls displace.lua by `send` until the messages are accepted; what enqueue.lua would reply."""
        queue: str = head[1 + head[0]]
        started, limit = time.monotonic(), self.bound(queue)
        offered: list[Found] = []
        ends: list[Any] = []
        while True:
            accepted, gone, *rest = send([*head, limit, len(offered), *ends, *messages])
            for position in gone:
                _tell(offered[position], queue)
            if accepted:
                return rest[0]
            depth, new, oldest = rest
            candidates = [(found, each[2]) for each in oldest if (found := found_of(each)).message is not None]
            if not candidates or time.monotonic() - started > LONGEST_STRUGGLE:
                raise self.full(queue, depth, new)
            offered, at = [found for found, _ in candidates], now()
            ends = [part for found, payload in candidates for part in self._end(found, payload, limit, at)]

    def _end(self, found: Found, payload: list[bytes], limit: int | str, now: float) -> Iterator[Any]:
        """What displace.lua takes for a task that may go."""
        message = found.message
        if message is not None:
            outcome = ended_waiting(found, State.FAILED, DROPPED, now)
            outcome.error_message = f"Dropped to make room: queue {found.queue!r} had reached max_length={limit}."
            outcome.raw = pack_fields(payload if found.state is State.QUEUED else payload[1:])
            key = self._keys.idempotency_of(message)
            yield from (message.id, found.location, encode_outcome(outcome), key, activity("failed", message.task))

    def full(self, queue: str, depth: int, new: int) -> QueueFull:
        """The error for so many new tasks."""
        return QueueFull(queue=queue, depth=depth, limit=self._bounded[queue].max_length or 0, new=new)


def _tell(found: Found, queue: str) -> None:
    if found.message is not None:
        logger.warning(
            "%s %s dropped: queue %s is full; dead letter (%s)",
            found.message.task, id_to_str(found.message.id), queue, DROPPED,
        )  # fmt: skip
        if _listener is not None:
            _listener(found.message, queue)
