"""Where tasks run: a pool of threads for sync tasks, one event loop for async ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

from django_taskq.broker.deliveries import Delivery, Settlement
from django_taskq.context import TaskContext, _current
from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.middleware import call_chain
from django_taskq.registry import all_tasks
from django_taskq.worker.notes import Notes
from django_taskq.worker.slots import Slot

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor, Work

Settle = Callable[[Settlement], None]
SMOOTHING = 0.05  # weight of the newest duration in the mean


class Mean:
    """A moving mean of durations, in seconds; None before the first."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, seconds: float) -> None:
        """The newest one."""
        mean = self.seconds
        self.seconds = seconds if mean is None else mean + SMOOTHING * (seconds - mean)


class ThreadPool:
    """Runs sync deliveries in `size` threads, in the order of arrival."""

    def __init__(self, size: int, executor: Executor, notes: Notes, settle: Settle, room: threading.Event) -> None:
        self.size, self.executor, self.notes, self.settle, self.room = size, executor, notes, settle, room
        self.ready: SimpleQueue[Delivery | None] = SimpleQueue()
        self.low = 0  # how many may wait when there is room again; the claimer sets it
        self.durations = Mean()
        self.measure = self.durations.add
        self._chain = call_chain(_call)
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
        token = _current.set(work.context)
        close_stale_connections()
        try:
            return self._chain(work.context, work.args, work.kwargs)
        finally:
            _current.reset(token)
            close_stale_connections()

    def finished(self) -> None:
        """A thread is free again."""
        if not self.room.is_set() and self.ready.qsize() <= self.low:
            self.room.set()

    def replace(self, slot: Slot) -> None:
        """A new thread for one that is stuck."""
        if self._numbers:
            self.slots[self.slots.index(slot)] = Slot(self, self._numbers.pop())

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


class LoopPool:
    """Runs async deliveries on one event loop, `size` at a time."""

    def __init__(
        self, size: int, executor: Executor, notes: Notes, first_note: int, settle: Settle, room: threading.Event
    ) -> None:
        self.size, self.executor, self.notes, self.settle, self.room = size, executor, notes, settle, room
        self.low = 0
        self.durations = Mean()
        self._ready: deque[Delivery] = deque()
        self._numbers = list(range(first_note, first_note + size))
        self._running: dict[asyncio.Task[None], AsyncRun] = {}
        # Middleware that cannot go around coroutines is refused only where there are any.
        self._chain = call_chain(_acall) if any(task.is_async for task in all_tasks()) else _acall
        self._scheduled = False
        self._used_database = 0.0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="taskq-loop", daemon=True)
        self.thread.start()

    @property
    def busy(self) -> int:
        """How many run."""
        return len(self._running)

    def waiting(self) -> int:
        """Deliveries that have not started."""
        return len(self._ready)

    def put(self, delivery: Delivery) -> None:
        """Adds a delivery; from any thread."""
        self._ready.append(delivery)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon_threadsafe(self._start)

    def take_back(self, before: float) -> list[Delivery]:
        """As ThreadPool.take_back."""
        taken = []
        while self._ready and self._ready[0].claimed < before:
            try:
                taken.append(self._ready.popleft())
            except IndexError:
                break
        return taken

    def running(self) -> list[tuple[AsyncRun, Work]]:
        """Runs under way, with their work."""
        return [(run, run.work) for run in list(self._running.values()) if run.work is not None]

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_later(1.0, self._housekeeping)
        self.loop.run_forever()

    def _start(self) -> None:
        self._scheduled = False
        while self._ready and self._numbers:
            try:
                delivery = self._ready.popleft()
            except IndexError:
                return
            run = AsyncRun(self, delivery, self._numbers.pop())
            task = self.loop.create_task(run.run())
            run.task = task
            self._running[task] = run
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        run = self._running.pop(task)
        self._numbers.append(run.number)
        if self._ready:
            self._start()
        if not self.room.is_set() and len(self._ready) <= self.low:
            self.room.set()

    def call(self, work: Work) -> Any:
        """The coroutine of a task, inside the middleware."""
        return self._chain(work.context, work.args, work.kwargs)

    def _housekeeping(self) -> None:
        """Async tasks use the ORM through sync_to_async: its thread's connections are closed as after a request."""
        if self._used_database:
            self._used_database = 0.0
            self._closing = self.loop.create_task(sync_to_async(close_old_connections)())
        self.loop.call_later(1.0, self._housekeeping)

    def touched(self) -> None:
        """An async task ended: it may have left a database connection behind."""
        self._used_database = time.monotonic()


class AsyncRun:
    """One async task on the loop."""

    __slots__ = ("_interruption", "abandoned", "delivery", "number", "pool", "task", "work")

    def __init__(self, pool: LoopPool, delivery: Delivery, number: int) -> None:
        self.pool, self.delivery, self.number = pool, delivery, number
        self.work: Work | None = None
        self.task: asyncio.Task[None] | None = None
        self.abandoned = False
        self._interruption: type[TaskTimeout | TaskCancelled] | None = None

    async def run(self) -> None:
        """Prepares, runs and settles the delivery; never raises."""
        pool = self.pool
        pool.notes.set(self.number, self.delivery.location, time.time())
        try:
            settlement = await self._attempt()
        finally:
            pool.notes.clear(self.number)
        if settlement is not None:
            pool.settle(settlement)

    async def _attempt(self) -> Settlement | None:
        pool, executor = self.pool, self.pool.executor
        work = executor.prepare(self.delivery)
        if isinstance(work, Settlement):
            return work
        if work.hard_timeout is not None:
            pool.notes.limit(self.number, work.started + work.hard_timeout)
        self.work = work
        timer = None
        if work.timeout is not None:
            timer = pool.loop.call_later(work.timeout, self.interrupt, work, TaskTimeout)
        result, error = None, None
        _current.set(work.context)  # this asyncio task's own context
        try:
            result = await pool.call(work)
        except BaseException as raised:  # noqa: BLE001 - whatever a task raises is its failure
            error = raised
        if timer is not None:
            timer.cancel()
        self.work = None
        pool.touched()
        if self.abandoned:
            return None
        if isinstance(error, asyncio.CancelledError) and self._interruption is not None:
            error = self._interruption().with_traceback(error.__traceback__)
        pool.durations.add(time.monotonic() - work.started)
        return executor.succeeded(work, result) if error is None else executor.failed(work, error)

    def interrupt(self, work: Work, exception: type[TaskTimeout | TaskCancelled]) -> bool:
        """Cancels the coroutine, once; on the loop's thread."""
        if self.work is not work or self._interruption is not None or self.task is None:
            return False
        self._interruption = exception
        return self.task.cancel()

    def abandon(self, work: Work) -> bool:
        """As Slot.abandon; decided on the caller's thread, because the loop may be what is stuck."""
        if self.work is not work:
            return False
        self.abandoned = True
        return True


class _Database(threading.local):
    """Whether this thread has opened a database connection that may still be open."""

    opened = False


_database = _Database()


def _note_connection(**_: Any) -> None:
    _database.opened = True


connection_created.connect(_note_connection, dispatch_uid="django_taskq.worker.pools")


def close_stale_connections() -> None:
    """What Django does around a request. Tasks that do not use the database do not pay for it."""
    if _database.opened:
        _database.opened = False
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()
            if connection.connection is not None:
                _database.opened = True


def _call(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    task = context.task
    if task.takes_context:
        return task.func(context, *args, **kwargs)
    return task.func(*args, **kwargs)


async def _acall(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return await _call(context, args, kwargs)
