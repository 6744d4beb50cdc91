"""How full queues are: what the inspector shows and the sampler notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys


class QueueState(NamedTuple):
    """One queue at one moment. Times are epoch seconds on Redis' clock."""

    name: str
    paused: bool
    ready: int  # waiting for a worker
    running: int  # held by workers
    scheduled: int
    oldest: float | None  # since when the one that has waited longest is ready
    next_due: float | None
    priorities: dict[int, int]  # priority -> ready
    blocked: int = 0  # parked: a limit has no room for them, or their task is paused


def queue_states(connections: Connections, keys: Keys, names: Iterable[str]) -> list[QueueState]:
    """The state of queues, in the order given; one round trip. Raises BrokerUnavailable or BrokerRefused."""
    names = list(names)
    return read_states(keys, names, connections.run(scripts.INSPECT, inspection(keys, names)))


def inspection(keys: Keys, names: Sequence[str]) -> tuple[Any, ...]:
    """The arguments of inspect.lua for these queues."""
    read = [keys.paused]
    for name in names:
        of_queue = keys.queue(name)
        read += (of_queue.lanes, of_queue.scheduled, keys.parked(name))
    return (len(read), *read, *names)


def read_states(keys: Keys, names: Sequence[str], replies: Sequence[Any]) -> list[QueueState]:
    """What inspect.lua returned for these queues."""
    return [_queue_state(keys, name, reply) for name, reply in zip(names, replies, strict=True)]


def _queue_state(keys: Keys, name: str, reply: list[Any]) -> QueueState:
    paused, scheduled, due, parked, *lanes = reply
    ready = running = 0
    priorities: dict[int, int] = {}
    oldest: list[float] = []
    for lane, length, held, _returned, first in lanes:
        waiting = max(0, length - held)
        ready, running = ready + waiting, running + held
        if waiting:
            place = keys.place(lane)
            priority = place.priority if place else 0
            priorities[priority] = priorities.get(priority, 0) + waiting
        if first:
            oldest.append(int(first.partition(b"-")[0]) / 1000)
    return QueueState(
        name, bool(paused), ready, running, int(scheduled), min(oldest, default=None),
        int(float(due)) / 1000 if due else None, priorities, int(parked),
    )  # fmt: skip
