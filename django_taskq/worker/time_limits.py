"""Soft time limits and cancellation of what runs. Called by the process' main thread every tenth of a second.

A thread gets the exception raised, a coroutine is cancelled. Who is still stuck five seconds later loses the
task: it is settled without it, the thread is replaced, and the process makes way for a new one when its neighbours are
done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.logs import fields_of
from django_taskq.worker.slots import Slot

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.loop import AsyncRun, LoopPool
    from django_taskq.worker.pools import Settle, ThreadPool
    from django_taskq.worker.work import Work

logger = logging.getLogger("django_taskq.worker")

GRACE = 5.0  # seconds a task may take to end after its time limit


class TimeLimits:
    """`retire` is called when a place is stuck for good."""

    def __init__(
        self, threads: ThreadPool, loop: LoopPool, executor: Executor, settle: Settle, retire: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._threads, self._loop, self._executor, self._settle, self._retire = threads, loop, executor, settle, retire

    def check(self) -> None:
        """Interrupts what is over its limit, and takes away what does not react."""
        now = time.monotonic()
        for slot, work in self._threads.running():
            self._check(slot, work, now)
        for run, work in self._loop.running():
            self._check(run, work, now)

    def _check(self, place: Slot | AsyncRun, work: Work, now: float) -> None:
        deadline = work.context.deadline
        if deadline is not None and now >= deadline:
            if isinstance(place, Slot):
                place.interrupt(work, TaskTimeout)
            if now >= deadline + GRACE:
                text = f"It did not end within {work.timeout:g} s, nor when it was interrupted."
                self._take_away(place, work, TaskTimeout(text))

    def cancel(self, location: bytes) -> bool:
        """Interrupts the run of one delivery; False when it is not running here."""
        for slot, work in self._threads.running():
            if work.delivery.location == location:
                return slot.interrupt(work, TaskCancelled)
        for run, work in self._loop.running():
            if work.delivery.location == location:
                self._loop.loop.call_soon_threadsafe(run.interrupt, work, TaskCancelled)
                return True
        return False

    def _take_away(self, place: Slot | AsyncRun, work: Work, error: TaskTimeout) -> None:
        if not place.abandon(work):
            return
        self._settle(self._executor.concluded(work, None, error))
        if isinstance(place, Slot):
            self._threads.replace(place)
        logger.error(
            "%s %s is stuck: it ignored its time limit of %.0f s and counts as failed; its process is replaced",
            work.task.name, work.context.id, work.timeout or 0, extra=fields_of(work.context),
        )  # fmt: skip
        self._retire(f"{work.task.name} is stuck")
