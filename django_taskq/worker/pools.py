"""Where sync tasks run: a pool of threads. (The event loop for async ones is in loop.py.)"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.context import TaskContext, current_context
from django_taskq.middleware import call_chain
from django_taskq.model_references import fill
from django_taskq.worker.database import close_stale_connections
from django_taskq.worker.notes import Notes
from django_taskq.worker.slots import Slot

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work

Settle = Callable[[Settlement | list[Settlement]], None]
SMOOTHING = 0.05  # weight of the newest duration in the mean


class Mean:
    """A moving mean of durations, in seconds; None before the first."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, seconds: float) -> None:
        """The newest one."""
        mean = self.seconds
        self.seconds = seconds if mean is None else mean + SMOOTHING * (seconds - mean)

    def at_least(self, seconds: float) -> None:
        """Something is known to take longer, though it has not ended."""
        if self.seconds is None or self.seconds < seconds:
            self.seconds = seconds


class ThreadPool:
    """Runs sync deliveries in `size` threads, in the order of arrival."""

    def __init__(self, size: int, executor: Executor, notes: Notes, settle: Settle, room: threading.Event) -> None:
        self.size, self.executor, self.notes, self.settle, self.room = size, executor, notes, settle, room
        self.ready: SimpleQueue[Delivery | None] = SimpleQueue()
        self.low = 0  # how many may wait when there is room again; the claimer sets it
        self.durations = Mean()
        self.measure = self.durations.add
        self._chain = call_chain(call_task)
        self._numbers = list(range(size, 2 * size))  # notes for threads that replace stuck ones
        self.slots = [Slot(self, number) for number in range(size)]

    @property
    def busy(self) -> int:
        """How many threads run something."""
        return sum(slot.busy for slot in self.slots)

    def put(self, delivery: Delivery) -> None:
        """Adds a delivery; from any thread."""
        self.ready.put(delivery)

    def waiting(self) -> int:
        """Deliveries that no thread has taken yet."""
        return self.ready.qsize()

    def call(self, work: Work) -> Any:
        """Runs a task in this thread, as a request would: with its context, and stale database connections closed."""
        token = current_context.set(work.context)
        close_stale_connections()
        try:
            return self._chain(work.context, work.args, work.kwargs)
        finally:
            current_context.reset(token)
            close_stale_connections()

    def finished(self) -> None:
        """A thread is free again."""
        if not self.room.is_set() and self.ready.qsize() <= self.low:
            self.room.set()

    def replace(self, slot: Slot) -> None:
        """A new thread for one that is stuck; after `size` of them there are fewer threads."""
        self.slots.remove(slot)
        if self._numbers:
            self.slots.append(Slot(self, self._numbers.pop()))

    def take_back(self, before: float) -> list[Delivery]:
        """Removes what was claimed before a moment (monotonic) and has not started; the rest keeps its order."""
        taken: list[Delivery] = []
        kept: list[Delivery] = []
        try:
            while True:
                delivery = self.ready.get_nowait()
                if delivery is not None:
                    (taken if delivery.claimed < before else kept).append(delivery)
        except Empty:
            pass
        for delivery in kept:
            self.ready.put(delivery)
        return taken

    def running(self) -> list[tuple[Slot, Work]]:
        """Slots that run a task, with it."""
        return [(slot, work) for slot in self.slots if (work := slot.work) is not None]


def call_task(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    task = context.task
    if task.codec.refers and not task.is_async:
        fill(context, (args, kwargs))
    if task.takes_context:
        return task.func(context, *args, **kwargs)
    return task.func(*args, **kwargs)
