"""What the live view shows: one look, and what changed since the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from django.db import DatabaseError, InterfaceError, connections

from django_taskq.broker.inspector import Inspector
from django_taskq.management.status import Seen, look
from django_taskq.models import DeadTask

if TYPE_CHECKING:
    from django_taskq.broker import Broker

FAILURES = 20  # the newest dead letters
ENDS = ("succeeded", "failed", "cancelled", "expired", "discarded")


class Glimpse(NamedTuple):
    """`ended`: `<queue>:<state>` -> how many so far. `failures` is None where the database cannot be asked."""

    seen: Seen
    ended: dict[str, int]
    failures: list[DeadTask] | None


def glimpse(broker: Broker) -> Glimpse:
    """Takes some ten milliseconds, or seconds where Redis is slow: not for the thread that draws.

    Raises what Redis raises. Closes the database connections of its thread.
    """
    try:
        return Glimpse(look(broker), Inspector(broker).totals(), _failures())
    finally:
        connections.close_all()


def _failures() -> list[DeadTask] | None:
    newest = DeadTask.objects.filter(state=DeadTask.State.DEAD).order_by("-failed_at")
    wanted = ("task_id", "task", "queue", "reason", "error_class", "error_message", "attempts", "failed_at")
    try:
        return list(newest.only(*wanted)[:FAILURES])
    except (DatabaseError, InterfaceError):
        return None


class Rate(NamedTuple):
    """Tasks a second, of one queue or of all."""

    arrived: float = 0.0
    ended: float = 0.0
    failed: float = 0.0


@dataclass
class Rates:
    """By queue, between the last two looks; `''` is all of them together."""

    by_queue: dict[str, Rate] = field(default_factory=dict)
    _before: Glimpse | None = None

    def add(self, now: Glimpse) -> None:
        """Another look. Counts that fell (a namespace that was emptied) count as none."""
        before, self._before = self._before, now
        if before is None or now.seen.now <= before.seen.now:
            return
        span = now.seen.now - before.seen.now
        present = {queue.name: queue for queue in before.seen.queues}
        for queue in now.seen.queues:
            ended = _ended(now.ended, queue.name, ENDS) - _ended(before.ended, queue.name, ENDS)
            failed = _ended(now.ended, queue.name, ("failed",)) - _ended(before.ended, queue.name, ("failed",))
            grown = sum(queue[2:5]) + queue.blocked
            if queue.name in present:
                grown -= sum(present[queue.name][2:5]) + present[queue.name].blocked
            self.by_queue[queue.name] = Rate(*(max(0, count) / span for count in (grown + ended, ended, failed)))
        of_queues = [self.by_queue[queue.name] for queue in now.seen.queues]
        self.by_queue[""] = Rate(*(sum(column) for column in zip(*of_queues, strict=True)))


def _ended(counts: Mapping[str, int], queue: str, states: tuple[str, ...]) -> int:
    return sum(counts.get(f"{queue}:{state}", 0) for state in states)
