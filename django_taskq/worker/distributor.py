"""Who runs what was claimed: the threads or the event loop, how much more they can take, and what goes back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django_taskq import registry
from django_taskq.broker.delivery import Delivery, Settlement, release
from django_taskq.core.fields import losses_of, named
from django_taskq.worker.batches import Batch, deliveries_of
from django_taskq.worker.gathering import Gathering
from django_taskq.worker.prefetch import ahead_for, room_for, to_claim, with_batches
from django_taskq.worker.preparing import MOST_LOSSES

if TYPE_CHECKING:
    from django_taskq.batch import Batching
    from django_taskq.task import Task
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
        self._gathering: Gathering[Delivery] = Gathering()
        self._batches: list[Batch] = []  # handed to a pool; those that have started among them do not count
        self._gathered = 0.0  # share of the messages of the last claims that were calls for batches

    def wanted(self) -> int:
        """How many messages to claim so that both kinds find room. None while a batch waits for a place."""
        if self._batches:
            self._batches = [batch for batch in self._batches if batch.waits]
            if self._batches:
                return 0
        wanted = to_claim(self._room(self._threads), self._room(self._loop), self._share)
        return wanted if not self._gathered else with_batches(wanted, self._gathered, self._gathering.missing())

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
            self.release([delivery for delivery in deliveries if delivery not in self._suspects])
            return
        to_loop = gathered = 0
        for delivery in deliveries:
            task = _task_of(delivery)
            if task is not None and task.batching is not None:
                self._gather(task, task.batching, delivery)
                gathered += 1
            elif task is not None and task.is_async:
                self._loop.put(delivery)
                to_loop += 1
            else:
                self._threads.put(delivery)
        if gathered or self._gathered:
            self._gathered = _moved(self._gathered, gathered / len(deliveries))
            if gathered == len(deliveries):
                return
        share = to_loop / (len(deliveries) - gathered)
        self._share = share if self._share is None else _moved(self._share, share)

    def _gather(self, task: Task[..., Any], batching: Batching, delivery: Delivery) -> None:
        now = time.monotonic()
        complete = self._gathering.add(task.name, delivery, size=batching.size, patience=batching.timeout, now=now)
        if complete is not None:
            self._start(complete, now)

    def start_batches(self, *, due: bool = True) -> None:
        """Starts batches whose first call has waited for long enough, or all that have begun."""
        if self._gathering:
            now = time.monotonic()
            for calls in self._gathering.due(now) if due else self._gathering.all():
                self._start(calls, now)

    def next_batch(self) -> float | None:
        """When `start_batches` will have something to start, monotonic seconds; None while nothing gathers."""
        return self._gathering.next_due() if self._gathering else None

    def _start(self, calls: Sequence[Delivery], now: float) -> None:
        pool = self._pool_for(calls[0])
        batch = Batch(calls, now, self._settle, pool.room.set)
        self._batches.append(batch)
        pool.put(batch)

    def _pool_for(self, delivery: Delivery) -> ThreadPool | LoopPool:
        return self._loop if _is_async(delivery) else self._threads

    def offer(self, deliveries: Sequence[Delivery]) -> int:
        """Gives each to its pool if that has room, otherwise to other workers. Returns how many found room."""
        placed = 0
        for delivery in deliveries:
            if not self._suspects and self._room(self._pool_for(delivery)):
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
            self._release_waiting()
            return None
        delivery = self._suspects.popleft()
        self.release(self._suspects)
        self._suspects.clear()
        task = _task_of(delivery)
        if task is not None and task.batching is not None:
            self._start([delivery], time.monotonic())
        else:
            self._pool_for(delivery).put(delivery)
        return delivery

    def busy(self) -> bool:
        """Whether anything runs here."""
        return bool(self._threads.busy or self._loop.busy)

    def release_late(self) -> None:
        """Hands on what has waited here for too long, and claims less ahead: something takes longer than it did."""
        before = time.monotonic() - MOST_WAIT
        for pool in (self._threads, self._loop):
            if pool.waiting() and (late := pool.take_back(before)):
                self.release(late)
                pool.durations.at_least(MOST_WAIT)

    def release_all(self) -> None:
        """Hands on what has not started."""
        self._release_waiting()
        self.release(self._suspects)
        self._suspects.clear()

    def _release_waiting(self) -> None:
        self.release(self._threads.take_back(float("inf")) + self._loop.take_back(float("inf")))
        for calls in self._gathering.all():
            self.release(calls)

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Hands them on to other workers."""
        for delivery in deliveries:
            if isinstance(delivery, Batch):
                delivery.leave()
            for each in deliveries_of(delivery):
                self._settle(release(each))


def _moved(mean: float, newest: float) -> float:
    """A moving mean of a share, which arrives at 0 and 1."""
    mean += SMOOTHING * (newest - mean)
    return float(round(mean)) if abs(mean - round(mean)) < 0.01 else mean


def _is_suspect(delivery: Delivery) -> bool:
    """Whether a task has cost so many workers that it runs alone, those before its last retry included."""
    losses = delivery.losses + losses_of(delivery.fields)
    return losses >= ALONE_FROM and not (delivery.losses and losses >= MOST_LOSSES)


def _is_async(delivery: Delivery) -> bool:
    """Whether a message is for the event loop."""
    task = _task_of(delivery)
    return task is not None and task.is_async


def _task_of(delivery: Delivery) -> Task[..., Any] | None:
    """The task of a message. What cannot be read goes to a thread, which says so."""
    fields = delivery.fields  # in the order of our own producers, or a foreign one's
    name = fields[3] if len(fields) > 3 and fields[2] == b"t" else named(fields).get(b"t", b"")
    return registry.find(name.decode("utf-8", "replace"))
