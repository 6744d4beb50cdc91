"""One call that stays in this process, from its sending to its end."""

from __future__ import annotations

import itertools
import time

from django_taskq.broker import Found, Submission
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import ENDED, State
from django_taskq.handle import TaskHandle

_numbers = itertools.count(1)


class LocalCall:
    """What Redis would know of it. `sent` is epoch ms; `error` what its last attempt raised."""

    def __init__(self, submission: Submission, sent: int) -> None:
        self.number, self.submission, self.sent = next(_numbers), submission, sent
        self.message: Message = _stamped(submission, sent)
        self.due: int | None = sent + submission.delay if submission.delay is not None else submission.due
        self.state = State.QUEUED if self.due is None or self.due <= sent else State.SCHEDULED
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

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

    def told(self, handle: TaskHandle[object]) -> None:
        """Has a handle know the state."""
        handle.accepted(self.id, self.state, created=handle.created)

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
