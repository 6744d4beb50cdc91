"""Messages on their way to a queue: one each, in groups that fit a round trip, and what the broker answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from django_taskq.broker.keys import Place
from django_taskq.core.message import Message
from django_taskq.exceptions import RateLimited

BATCH = 500
BATCH_BYTES = 1_048_576
REFUSED = -2  # what enqueue.lua's reply begins with where a rate limit refuses a message


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A message on its way to a queue. `delay`, `expires_in` and `deadline_in` are ms from now, `due` epoch ms, on
    Redis' clock. A message that has a deadline keeps it if it is the sooner one.
    """

    message: Message
    queue: str
    delay: int | None = None
    due: int | None = None
    expires_in: int | None = None
    deadline_in: int | None = None
    share: str = ""  # of its lane, where that is not the message's own

    @property
    def place(self) -> Place:
        """The lane it is for."""
        return Place(self.queue, self.message.priority, self.share or self.message.share)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The id that answers for a submission; `created` is False when its idempotency key belongs to that other task."""

    id: bytes
    created: bool


def answers_of(submissions: Sequence[Submission], taken: Sequence[Any]) -> list[Accepted]:
    """What enqueue.lua returned, for each message: the position and owner of every idempotency key that was taken.

    Raises RateLimited.
    """
    if taken and taken[0] == REFUSED:
        message = submissions[taken[1]].message
        raise RateLimited(task=message.task, seconds=taken[2] / 1000)
    answers = [Accepted(submission.message.id, True) for submission in submissions]
    for position, owner in zip(taken[::2], taken[1::2], strict=True):
        answers[position] = Accepted(owner, created=False)
    return answers


def chunks_of(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    """In groups that fit one round trip."""
    chunk: list[Submission] = []
    size = 0
    for submission in submissions:
        message = submission.message
        weight = len(message.args) + len(message.kwargs) + 64
        if chunk and (len(chunk) >= BATCH or size + weight > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(submission)
        size += weight
    if chunk:
        yield chunk
