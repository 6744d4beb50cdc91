"""Who runs what was claimed: the threads or the event loop, how much more they can take, and what goes back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from django_taskq import registry
from django_taskq.broker.deliveries import Delivery, Settlement, release
from django_taskq.core.message import losses_of
from django_taskq.worker.executor import MOST_LOSSES
from django_taskq.worker.prefetch import ahead_for, room_for, to_claim

if TYPE_CHECKING:
    from django_taskq.worker.loop import LoopPool
    from django_taskq.worker.pools import ThreadPool

MOST_WAIT = 1.0  # seconds a claimed message may wait here before it is released to other workers
ALONE_FROM = 2  # losses; at MOST_LOSSES it is buried without being run
SMOOTHING = 0.2  # weight of the newest claim in the share of async messages


class Distributor:
    """Used by the claiming thread alone."""

    def __init__(self, threads: ThreadPool, loop: LoopPool, settle: Callable[[Settlement], None]) -> None:
        self._threads, self._loop, self._settle = threads, loop, settle
        self._suspects: deque[Delivery] = deque()  # they run one at a time, alone
        self._share: float | None = None

    def wanted(self) -> int:
        """How many messages to claim so that both kinds find room."""
        return to_claim(self._room(self._threads), self._room(self._loop), self._share)

    def _room(self, pool: ThreadPool | LoopPool) -> int:
        ahead = ahead_for(pool.size, pool.durations.seconds)
        pool.low = ahead // 2
        return room_for(pool.size, pool.busy, pool.waiting(), ahead)

    def one_is_full(self) -> bool:
        """Whether one pool has room while the other has none, and nothing waits here."""
        return not self.waiting() and bool(self._room(self._threads) or self._room(self._loop))

    def waiting(self) -> int:
        """Deliveries that have not started."""
        return self._threads.waiting() + self._loop.waiting()

    def give(self, deliveries: Sequence[Delivery]) -> None:
        """Each to its pool, or to the suspects; what comes with a suspect goes to other workers."""
        for delivery in deliveries:
            if (delivery.losses or b"l" in delivery.fields) and _is_suspect(delivery):
                self._suspects.append(delivery)
        if self._suspects:
            self._release([delivery for delivery in deliveries if delivery not in self._suspects])
            return
        to_loop = 0
        for delivery in deliveries:
            if _is_async(delivery):
                self._loop.put(delivery)
                to_loop += 1
            else:
                self._threads.put(delivery)
        share = to_loop / len(deliveries)
        self._share = share if self._share is None else self._share + SMOOTHING * (share - self._share)
        if abs(self._share - round(self._share)) < 0.01:
            self._share = float(round(self._share))

    def offer(self, deliveries: Sequence[Delivery]) -> int:
        """Gives each to its pool if that has room, otherwise to other workers. Returns how many found room."""
        placed = 0
        for delivery in deliveries:
            if not self._suspects and self._room(self._loop if _is_async(delivery) else self._threads):
                self.give([delivery])
                placed += 1
            else:
                self._settle(release(delivery))
        return placed

    def has_suspects(self) -> bool:
        """Whether a task waits that has cost workers."""
        return bool(self._suspects)

    def start_suspect(self, held: int) -> Delivery | None:
        """Starts one when nothing else of the `held` deliveries runs here, so that it takes nobody with it.

        What waits is handed on, other suspects too. None: not yet.
        """
        if self.waiting() or self.busy() or held > len(self._suspects):
            self._release(self._threads.take_back(float("inf")) + self._loop.take_back(float("inf")))
            return None
        delivery = self._suspects.popleft()
        self._release(self._suspects)
        self._suspects.clear()
        (self._loop if _is_async(delivery) else self._threads).put(delivery)
        return delivery

    def busy(self) -> bool:
        """Whether anything runs here."""
        return bool(self._threads.busy or self._loop.busy)

    def release_late(self) -> None:
        """Hands on what has waited here for too long, and claims less ahead: something takes longer than it did."""
        before = time.monotonic() - MOST_WAIT
        for pool in (self._threads, self._loop):
            if pool.waiting() and (late := pool.take_back(before)):
                self._release(late)
                pool.durations.at_least(MOST_WAIT)

    def release_all(self) -> None:
        """Hands on what has not started."""
        self._release([*self._threads.take_back(float("inf")), *self._loop.take_back(float("inf")), *self._suspects])
        self._suspects.clear()

    def _release(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._settle(release(delivery))


def _is_suspect(delivery: Delivery) -> bool:
    """Whether a task has cost so many workers that it runs alone, those before its last retry included."""
    losses = delivery.losses + losses_of(delivery.fields)
    return losses >= ALONE_FROM and not (delivery.losses and losses >= MOST_LOSSES)


def _is_async(delivery: Delivery) -> bool:
    """Whether a message is for the event loop. What cannot be read goes to a thread, which says so."""
    fields = delivery.fields
    if len(fields) > 3 and fields[2] == b"t":
        name = fields[3]
    else:  # a foreign producer's order
        name = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"t", b"")
    task = registry.find(name.decode("utf-8", "replace"))
    return task is not None and task.is_async
