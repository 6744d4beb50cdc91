"""One call that stays in this process, from its sending to its end."""

from __future__ import annotations

import itertools
import time
from typing import Any

from django_taskq.broker import Found, Submission
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import ENDED, State
from django_taskq.handle import TaskHandle
from django_taskq.registry import lookup

_numbers = itertools.count(1)


class LocalCall:
    """What Redis would know of it. `sent` is epoch ms; `error` what its last attempt raised."""

    def __init__(self, submission: Submission, sent: int) -> None:
        self.number, self.submission, self.sent = next(_numbers), submission, sent
        self.message: Message = _stamped(submission, sent)
        # What was asked for, and when it is due now: a retry puts it off.
        self.first_due: int | None = sent + submission.delay if submission.delay is not None else submission.due
        self.due = self.first_due
        self.state = State.QUEUED if self.due is None or self.due <= sent else State.SCHEDULED
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._handle: TaskHandle[Any] | None = None  # the sender's own, which learns what becomes of it

    @property
    def id(self) -> bytes:
        """The task's id, 16 bytes."""
        return self.message.id

    @property
    def entry(self) -> bytes:
        """As that of a stream's entry, which says when it was ready to run."""
        return b"%d-%d" % (self.sent, self.number)

    @property
    def waits(self) -> bool:
        """Whether it has yet to be run."""
        return self.state is not State.RUNNING and self.state not in ENDED

    @property
    def found(self) -> Found:
        """As the broker tells of it."""
        place = self.submission.place
        if self.outcome is not None:
            return Found(self.state, place.queue, b"", None, self.outcome)
        due = self.due if self.state is State.SCHEDULED else None
        return Found(self.state, place.queue, self.entry, self.message, None, due, "", place.priority, place.share)

    @property
    def handle(self) -> TaskHandle[Any]:
        """That of whoever sent it, with the state of now."""
        if self._handle is None:
            self._handle = TaskHandle(self.id, lookup(self.message.task))
        self.tell()
        return self._handle

    def tell(self) -> None:
        """The handle learns the state."""
        if self._handle is not None:
            self._handle.accepted(self.id, self.state, created=self._handle.created)

    def belongs_to(self, handle: TaskHandle[Any]) -> None:
        """`handle` is what its sender was given."""
        self._handle = handle

    def end(self, state: State, outcome: Outcome) -> None:
        """It has ended."""
        self.state, self.outcome = state, outcome


def now_ms() -> int:
    """Epoch ms."""
    return time.time_ns() // 1_000_000


def _stamped(submission: Submission, sent: int) -> Message:
    """The message as Redis would keep it: spans become points in time."""
    message = submission.message
    message.enqueued = sent
    if submission.expires_in is not None:
        message.expires = sent + submission.expires_in
    if submission.deadline_in is not None:
        message.deadline = min(sent + submission.deadline_in, message.deadline or sent + submission.deadline_in)
    return message
