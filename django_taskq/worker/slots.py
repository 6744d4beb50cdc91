"""One thread that runs sync tasks, one after the other, and can be interrupted in the middle of one.

An interruption is raised in the thread by PyThreadState_SetAsyncExc, at most once for each task. `disarm` makes sure
that it is raised in that task or not at all: after it no interruption of this task can be raised any more.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.worker.places import RunningPlace
from django_taskq.worker.sealing import log_fault
from django_taskq.worker.work import Work

if TYPE_CHECKING:
    from django_taskq.worker.pools import ThreadPool

logger = logging.getLogger("django_taskq.worker")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)


class _Swept(BaseException):
    """Takes the place of an interruption that was not raised yet, and is caught on the spot."""


_SWEPT = ctypes.py_object(_Swept)


class Slot(RunningPlace["ThreadPool"]):
    """A thread and what it is running. `work` is None between tasks."""

    def __init__(self, pool: ThreadPool, number: int) -> None:
        self.pool, self.number = pool, number
        self.busy = False
        self.work: Work | None = None
        self.abandoned = False  # its task was settled without it: whatever it does now counts for nothing
        self._guard = threading.RLock()
        self._armed = self._fired = False
        self.thread = threading.Thread(target=self._loop, name=f"taskq-{number}", daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        ready: SimpleQueue[Delivery | None] = self.pool.ready
        while True:
            delivery = ready.get()
            if delivery is None:
                return
            try:
                self._run(delivery)
            except BaseException as fault:  # noqa: BLE001
                log_fault(logger, delivery, fault, "a fault of the worker itself")
                self.pool.notes.clear(self.number)
                self.pool.settle(self.pool.executor.broken(delivery, fault))
                self.work, self.busy = None, False
            if self.abandoned:
                return

    def _run(self, delivery: Delivery) -> None:
        pool = self.pool
        pool.notes.set(self.number, delivery.location, time.time())
        self.busy = True
        settlement = self._attempt(delivery)
        pool.notes.clear(self.number)
        if settlement is not None:
            pool.settle(settlement)
        self.busy = False
        pool.finished()

    def _attempt(self, delivery: Delivery) -> Settlement | list[Settlement] | None:
        """How the delivery ends; None when it was settled without this thread."""
        executor = self.pool.executor
        work = executor.prepare(delivery)
        if not isinstance(work, Work):
            return work
        if work.hard_timeout is not None:
            self.pool.notes.limit(self.number, work.started + work.hard_timeout)
        self.work = work
        work.context.place = self
        result, error, ended = None, None, False
        try:
            try:
                self._armed, self._fired = True, False
                result = self.pool.call(work)
                ended = True
            except BaseException as raised:  # noqa: BLE001 - whatever a task raises is its failure, not the worker's
                error, ended = raised, True
            self._disarm()
        except (TaskTimeout, TaskCancelled) as late:  # raised between the end of the task and `_disarm`
            self._disarm()
            if not ended:
                error = late
        self.work = None
        if self.abandoned:
            return None
        settlement = executor.concluded(work, result, error)
        if work.__class__ is Work:  # how long a batch takes says nothing of the next task
            self.pool.measure(time.monotonic() - work.started)
        return settlement

    def interrupt(self, work: Work, exception: type[TaskTimeout | TaskCancelled]) -> bool:
        """Raises `exception` in the thread, if it still runs `work` and was not interrupted before."""
        with self._guard:
            if self.work is not work or not self._armed or self._fired or self.thread.ident is None:
                return False
            self._fired = True
            return bool(_set_async_exc(self.thread.ident, ctypes.py_object(exception)) == 1)

    def abandon(self, work: Work) -> bool:
        """Takes the task away from the thread, which is stuck in it. False when it has just ended."""
        with self._guard:
            if self.work is not work or not self._armed or self.abandoned:
                return False
            self.abandoned = True
            return True

    def _disarm(self) -> None:
        # It is raised once at most: whoever is hit in the first round is safe in the second.
        for _ in range(2):
            try:
                self._guard.acquire()
                self._armed = False
                if self._fired:
                    self._sweep()
                break
            except (TaskTimeout, TaskCancelled):
                continue
        while self._guard._is_owned():  # type: ignore[attr-defined]
            self._guard.release()

    def _sweep(self) -> None:
        # Setting none at all would do the same, but until the next one Python 3.11 and 3.12 would look for it at every
        # call of every thread, and 3.11 for ever at the first call of a thread that a debugger or profiler traces.
        try:
            _set_async_exc(threading.get_ident(), _SWEPT)
            while True:
                pass
        except _Swept:
            return
