"""What takes the broker's place in TASKQ["MODE"] "eager" and "collect": calls stay in this process, without Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Never

from django.core.signals import setting_changed

from django_taskq import producer
from django_taskq.broker import Accepted, Broker, Found, Submission
from django_taskq.broker.connection import Connections
from django_taskq.broker.found import cancelled_outcome
from django_taskq.broker.keys import Keys
from django_taskq.broker.location import Location
from django_taskq.conf import Settings
from django_taskq.core.states import State
from django_taskq.exceptions import ResultTimeout, TaskFailed
from django_taskq.handle import TaskHandle
from django_taskq.testing.calls import LocalCall, now_ms
from django_taskq.testing.inline import Inline

MOST = 10_000  # calls that have ended and are remembered


class LocalBroker(Broker):
    """As producers and handles know the broker. What only workers and operators ask for still goes to Redis."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(Connections(Location(settings)), Keys(settings.namespace), settings.queues)
        self.mode, self._propagates = settings.mode, settings.eager_propagates
        self._inline = Inline(settings)
        self._calls: dict[bytes, LocalCall] = {}
        self._lock = threading.RLock()

    # --- what producers and handles ask for ---------------------------------------------------------------------------

    def enqueue(self, submissions: Iterable[Submission], patience: float | None = None) -> list[Accepted]:
        """As Broker.enqueue; no queue is ever full, and no limit refuses."""
        return [self._take(submission) for submission in submissions]

    def enqueue_lane(self, submissions: Iterable[Submission], patience: float | None = None) -> Iterator[Accepted]:
        """As Broker.enqueue_lane."""
        return iter(self.enqueue(submissions))

    def _take(self, submission: Submission) -> Accepted:
        with self._lock:
            message = submission.message
            if message.id in self._calls:
                return Accepted(message.id, created=True)
            owner = self._owner(message.task, message.idempotency_key) if message.idempotency_key else None
            if owner is not None:
                return Accepted(owner.id, created=False)
            self._calls[message.id] = LocalCall(submission, now_ms())
            if len(self._calls) > MOST:
                self._forget_one()
            return Accepted(message.id, created=True)

    def _owner(self, task: str, key: str) -> LocalCall | None:
        """The call that an idempotency key belongs to: one that waits or runs, or has succeeded lately."""
        for call in self._calls.values():
            message = call.message
            if (message.task, message.idempotency_key) == (task, key) and (
                call.outcome is None
                or (
                    call.state is State.SUCCEEDED
                    and (call.outcome.finished or time.time()) + message.idempotency_ttl > time.time()
                )
            ):
                return call
        return None

    def _forget_one(self) -> None:
        ended = next((id for id, call in self._calls.items() if call.outcome is not None), None)
        if ended is not None:
            del self._calls[ended]

    def find(self, ids: Sequence[bytes], patience: float = 2.0) -> list[Found]:
        """As Broker.find."""
        calls = [self._calls.get(id) for id in ids]
        return [Found(None) if call is None else call.found for call in calls]

    def cancel(
        self, ids: Sequence[bytes], reason: str = "cancelled", then: Callable[[Found], None] | None = None
    ) -> list[bool | None]:
        """As Broker.cancel."""
        return [self._cancel_one(id, reason, then) for id in ids]

    def _cancel_one(self, id: bytes, reason: str, then: Callable[[Found], None] | None) -> bool | None:
        with self._lock:
            call = self._calls.get(id)
            if call is None or not call.waits:
                return None if call is None or call.outcome is not None else False
            found = call.found
            call.end(State.CANCELLED, cancelled_outcome(found, reason, time.time()))
        if then is not None:
            then(found)
        return True

    def listen(self, id: bytes) -> Never:
        """Nobody will announce an end: raises ResultTimeout, which says what to do."""
        raise ResultTimeout(
            f"TASKQ['MODE'] is {self.mode!r}, so no worker runs this task. django_taskq.testing.run_enqueued() does."
        )

    def time(self) -> float:
        """This machine's clock, epoch seconds."""
        return time.time()

    # --- running ------------------------------------------------------------------------------------------------------

    def calls(self) -> list[LocalCall]:
        """All that were sent, in that order, and not forgotten since."""
        with self._lock:
            return list(self._calls.values())

    def clear(self) -> None:
        """Forgets all calls."""
        with self._lock:
            self._calls.clear()

    def run(self, calls: Sequence[LocalCall]) -> None:
        """Runs calls, those of one batch or a single one, unless somebody else does."""
        with self._lock:
            mine = [call for call in calls if call.waits]
            for call in mine:
                call.state = State.RUNNING
        if mine:
            self._inline.run(mine)
        for call in mine:
            call.tell()

    def sent(self, handle: TaskHandle[Any]) -> None:
        """A call was sent: in the mode "eager" it is run, and the handle knows how it ended."""
        call = self._calls.get(handle._id)
        if call is None:
            return
        call.belongs_to(handle)
        if self.mode == "eager":
            self.run([call])
        call.tell()
        if self._propagates and self.mode == "eager" and call.state is State.FAILED:
            raise call.error if call.error is not None else _failure(handle)


def _failure(handle: TaskHandle[Any]) -> BaseException:
    """Why it failed without an attempt."""
    try:
        handle.get()
    except TaskFailed as error:
        return error
    return AssertionError(f"{handle!r} failed, and has a result")


def local_broker(settings: Settings) -> LocalBroker:
    """The broker of these settings, whose MODE is not "broker"."""
    broker = LocalBroker(settings)
    producer.set_runner(broker.sent)
    return broker


def _forget(setting: str, **_: object) -> None:
    if setting == "TASKQ":
        producer.set_runner(None)


setting_changed.connect(_forget, dispatch_uid="django_taskq.testing")
