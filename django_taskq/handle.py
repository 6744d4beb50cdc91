"""The handle of a task that was sent: where it is, what came out of it, and how to stop it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec
from django.db import close_old_connections

from django_taskq import announcements
from django_taskq.broker import get_broker
from django_taskq.broker.worker_states import progress_of
from django_taskq.core.ids import id_from_str, id_to_str
from django_taskq.core.progress import Progress
from django_taskq.core.states import ENDED, State
from django_taskq.ending import result_of
from django_taskq.exceptions import BrokerUnavailable, ResultTimeout, TaskNotFound
from django_taskq.registry import lookup

if TYPE_CHECKING:
    from django_taskq.broker import Found
    from django_taskq.broker.listener import Listener
    from django_taskq.core.outcome import Outcome
    from django_taskq.models import TaskResult
    from django_taskq.task import Task

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

# An announcement is lost with its connection, so whoever waits looks for himself, too. Seconds.
LOOK_AGAIN = 1.0


# A Struct without gc, because delay_many() makes them by the hundred thousand and none can be part of a cycle.
class TaskHandle(msgspec.Struct, Generic[R_co], gc=False, eq=False):
    """One task that was sent. Handles are equal when their ids are.

    `status` is as of the last `refresh()`. Whatever has to ask raises BrokerUnavailable when Redis is away, and
    TaskNotFound when nobody knows the id: before the commit that `delay_on_commit` waits for; after the record was
    pruned; a minute after a success that RECORD="failures" does not record.
    """

    _id: bytes
    _task: Task[..., Any] | None = None
    _state: State | None = None
    created: bool = True  # False: an earlier task has this idempotency key, and this is the handle of that one

    def accepted(self, id: bytes, state: State | None, *, created: bool) -> None:
        """What the broker answered when the task was sent; `state` None: not known."""
        self._id, self.created, self._state = id, created, state

    @property
    def id(self) -> str:
        """The task's id, a UUID string."""
        return id_to_str(self._id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}{f' of {self._task.name}' if self._task else ''}>"

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, TaskHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    @property
    def status(self) -> State:
        """The state as of the last `refresh()`; asks if nothing is known yet."""
        if self._state is None:
            self.refresh()
        return cast("State", self._state)

    def refresh(self) -> None:
        """Asks for the current state."""
        self._look()

    async def arefresh(self) -> None:
        """`refresh` without blocking the event loop."""
        await _in_thread(self.refresh)

    @property
    def progress(self) -> Progress | None:
        """How far the running task says it is, as of its worker's last beat; asks each time. None: it says nothing."""
        broker = get_broker()
        found = broker.find([self._id])[0]
        return progress_of(broker.connections, broker.keys, found.worker, found.location) if found.worker else None

    def cancel(self) -> bool | None:
        """True: it is cancelled. False: a worker holds it and was asked to stop it. None: it had ended before."""
        then = announcements.of_cancel()
        cancelled = get_broker().cancel([self._id], then=then)[0]
        if cancelled is None:
            self.refresh()
            if self._state not in ENDED:
                cancelled = self._cancel_unsent(then)
        if cancelled:
            self._state = State.CANCELLED
        return cancelled

    async def acancel(self) -> bool | None:
        """`cancel` without blocking the event loop."""
        return await _in_thread(self.cancel)

    def _cancel_unsent(self, then: Callable[[Found], None] | None) -> bool | None:
        """`cancel` for a task that Redis did not know a moment ago: it waits in the outbox, or has just been sent."""
        from django_taskq import outbox

        waiting = outbox.find(self._id)
        if waiting is None or not outbox.cancel(waiting):
            return get_broker().cancel([self._id], then=then)[0]
        if then is not None:
            then(waiting.found)
        return True

    def get(self, timeout: float | None = None) -> R_co:
        """The result, converted by the function's return hint; waits for it, at most `timeout` seconds.

        Raises TaskFailed if the task ended without one, ResultError if there is one that cannot be had, ResultTimeout;
        KeyMissing for one that is sealed where this process has no key, Undecryptable for one that was altered.
        """
        deadline = _deadline(timeout)
        ending = self._look()
        if ending is None:
            with get_broker().listen(self._id) as announcement:
                while (ending := self._look()) is None:
                    try:
                        announcement.wait(self._patience(deadline))
                    except BrokerUnavailable:
                        announcement.renew()
        return cast("R_co", result_of(ending, self._state, self.id, self._task))

    async def aget(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109
        """`get` without blocking the event loop; while it waits it needs no thread either."""
        deadline = _deadline(timeout)
        ending = await _in_thread(self._look)
        if ending is None:
            listening = get_broker().listen(self._id)
            announcement = await _in_thread(listening.__enter__)
            try:
                while (ending := await _in_thread(self._look)) is None:
                    try:
                        await _announced(announcement, self._patience(deadline))
                    except BrokerUnavailable:
                        await _in_thread(announcement.renew)
            finally:
                listening.__exit__(None, None, None)
        return cast("R_co", result_of(ending, self._state, self.id, self._task))

    def _look(self) -> Outcome | TaskResult | None:
        """Learns the state; returns how the task ended, or None if it has not."""
        found = get_broker().find([self._id])[0]
        if found.state is not None:
            self._state = found.state
            if self._task is None and found.message is not None:
                self._task = lookup(found.message.task)
            return found.outcome
        from django_taskq.records import find_record

        record = find_record(self._id)
        if record is None:
            self._look_in_outbox()
            return None
        self._state = State(record.status)
        return record

    def _look_in_outbox(self) -> None:
        """Learns the state of a task that has not been sent; TaskNotFound when it has no entry there either."""
        from django_taskq import outbox

        waiting = outbox.find(self._id)
        # While we looked it may have gone from there to Redis.
        found = waiting.found if waiting is not None else get_broker().find([self._id])[0]
        if found.state is None:
            raise TaskNotFound(f"Neither the broker nor the records know a task {self.id}.")
        self._state = found.state
        if self._task is None and found.message is not None:
            self._task = lookup(found.message.task)

    def _patience(self, deadline: float | None) -> float:
        """Seconds to wait before the next look; ResultTimeout when the time is over."""
        if deadline is None:
            return LOOK_AGAIN
        left = deadline - time.monotonic()
        if left <= 0:
            raise ResultTimeout(f"{self!r} is {self._state}, and the time to wait for it is over.")
        return min(left, LOOK_AGAIN)


def get_task(id: str) -> TaskHandle[Any]:
    """The handle of a task by its id; TaskNotFound if neither the broker nor the records know it."""
    try:
        handle: TaskHandle[Any] = TaskHandle(id_from_str(id))
    except ValueError as error:
        raise TaskNotFound(f"{error}.") from error
    handle.refresh()
    return handle


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


async def _in_thread(function: Callable[[], T]) -> T:
    """Runs it in a thread and leaves no stale database connection there, as after a request."""

    def run() -> T:
        try:
            return function()
        finally:
            close_old_connections()

    return await asyncio.to_thread(run)


async def _announced(announcement: Listener, seconds: float) -> None:
    """Returns when something has arrived on the listener's socket, or after so many seconds."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(announcement, arrived.set)
    try:
        await asyncio.wait_for(arrived.wait(), seconds)
    except TimeoutError:
        return
    finally:
        loop.remove_reader(announcement)
    announcement.wait(0)
