"""Where async tasks run: one event loop, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from django_taskq.broker.delivery import Delivery
from django_taskq.context import TaskContext, current_context
from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.middleware import call_chain
from django_taskq.model_references import fill
from django_taskq.worker.notes import Notes
from django_taskq.worker.places import RunningPlace
from django_taskq.worker.pools import Mean, Settle, call_task
from django_taskq.worker.sealing import log_fault
from django_taskq.worker.work import Work

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor

logger = logging.getLogger("django_taskq.worker")


class LoopPool:
    """Runs async deliveries on one event loop, `size` at a time."""

    def __init__(
        self, size: int, executor: Executor, notes: Notes, first_note: int, settle: Settle, room: threading.Event
    ) -> None:
        self.size, self.executor, self.notes, self.settle, self.room = size, executor, notes, settle, room
        self.low = 0
        self.durations = Mean()
        self.took_away = False  # whether the task of any run was taken away
        self._ready: deque[Delivery] = deque()
        self._numbers = list(range(first_note, first_note + size))
        self._running: dict[asyncio.Task[None], AsyncRun] = {}
        self._chain = call_chain(await_task)
        self._scheduled = False
        self._used_database = 0.0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="taskq-loop", daemon=True)
        self.thread.start()

    @property
    def busy(self) -> int:
        """How many run, without those whose task was taken away."""
        if not self.took_away:
            return len(self._running)
        return sum(not run.abandoned for run in list(self._running.values()))

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
        try:
            while self._ready[0].claimed < before:
                taken.append(self._ready.popleft())
        except IndexError:  # the loop has taken the last one
            pass
        return taken

    def running(self) -> list[tuple[AsyncRun, Work]]:
        """Runs under way, with their work."""
        return [(run, run.work) for run in list(self._running.values()) if run.work is not None]

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_later(1.0, self._housekeeping)
        while True:
            try:
                self.loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - asyncio lets a SystemExit of any of its tasks through
                logger.error("the event loop goes on after %r of a task's own task", error)

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


class AsyncRun(RunningPlace["LoopPool"]):
    """One async task on the loop."""

    __slots__ = ("abandoned", "delivery", "interruption", "number", "pool", "task", "work")

    def __init__(self, pool: LoopPool, delivery: Delivery, number: int) -> None:
        self.pool, self.delivery, self.number = pool, delivery, number
        self.work: Work | None = None
        self.task: asyncio.Task[None] | None = None
        self.abandoned = False
        self.interruption: type[TaskTimeout | TaskCancelled] | None = None

    async def run(self) -> None:
        """Prepares, runs and settles the delivery; never raises."""
        notes = self.pool.notes
        notes.set(self.number, self.delivery.location, time.time())
        try:
            await self._attempt()
        except GeneratorExit:  # a task's own task raised it: asyncio closes all that waits for that one, this too
            pass
        except BaseException as fault:  # noqa: BLE001
            log_fault(logger, self.delivery, fault, "a fault of the worker itself")
            self.pool.settle(self.pool.executor.broken(self.delivery, fault))
        finally:
            notes.clear(self.number)

    async def _attempt(self) -> None:
        pool, executor = self.pool, self.pool.executor
        work = executor.prepare(self.delivery)
        if not isinstance(work, Work):
            pool.settle(work)
            return
        if work.hard_timeout is not None:
            pool.notes.limit(self.number, work.started + work.hard_timeout)
        self.work = work
        work.context.place = self
        timer = None
        if work.context.deadline is not None:
            left = work.context.deadline - time.monotonic()
            timer = pool.loop.call_later(max(0.0, left), self.interrupt, work, TaskTimeout)
        result, error = None, None
        current_context.set(work.context)  # this asyncio task's own context
        try:
            result = await pool.call(work)
        except BaseException as raised:  # noqa: BLE001 - whatever a task raises is its failure
            error = raised
        if timer is not None:
            timer.cancel()
        self.work = None
        pool.touched()
        if self.abandoned:
            return
        if error is not None and issubclass(type(error), asyncio.CancelledError) and self.interruption is not None:
            error = self.interruption().with_traceback(error.__traceback__)
        if work.__class__ is Work:
            pool.durations.add(time.monotonic() - work.started)
        pool.settle(executor.concluded(work, result, error))

    def interrupt(self, work: Work, exception: type[TaskTimeout | TaskCancelled]) -> bool:
        """Cancels the coroutine, once; on the loop's thread."""
        if self.work is not work or self.interruption is not None or self.task is None:
            return False
        self.interruption = exception
        return self.task.cancel()

    def abandon(self, work: Work) -> bool:
        """As Slot.abandon; decided on the caller's thread, because the loop may be what is stuck."""
        if self.work is not work or self.abandoned:
            return False
        self.abandoned = self.pool.took_away = True
        return True


async def await_task(context: TaskContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if context.task.codec.refers:
        await sync_to_async(fill)(context, (args, kwargs))
    return await call_task(context, args, kwargs)
