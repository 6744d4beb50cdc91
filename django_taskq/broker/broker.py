"""The broker as producers and handles see it: enqueue, find, cancel, requeue, listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from django_taskq.broker import scripts
from django_taskq.broker.connection import Connections, retrying
from django_taskq.broker.keys import Keys, Place, place_of
from django_taskq.broker.lane import LaneCalls
from django_taskq.broker.listener import Listener
from django_taskq.broker.location import Location
from django_taskq.broker.outcomes import OutcomeStream
from django_taskq.core.activity import activity
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message, readable
from django_taskq.core.outcome import Outcome, decode_outcome, encode_outcome
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerUnavailable

if TYPE_CHECKING:
    from django_taskq.conf import Settings

T = TypeVar("T")

BATCH = 500
BATCH_BYTES = 1_048_576
# Seconds in which a producer's attempts begin; connecting takes the last one 2 more. Shorter than an ended task's id is
# remembered, so a late repetition is refused.
PRODUCER_PATIENCE = 8.0


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A message on its way to a queue. `delay` and `expires_in` are ms from now, `due` epoch ms, on Redis' clock."""

    message: Message
    queue: str
    delay: int | None = None
    due: int | None = None
    expires_in: int | None = None
    share: str = ""  # of its queue's lane of this priority (keys.py)

    @property
    def place(self) -> Place:
        """The lane it is for."""
        return Place(self.queue, self.message.priority, self.share)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The id that answers for a submission; `created` is False when its idempotency key belongs to that other task."""

    id: bytes
    created: bool


class Found(NamedTuple):
    """Where Redis has a task; `state` None: it does not know the id. `due` is epoch ms, `worker` the holder's id.

    `priority` and `share` are those of the lane it is in, or that waits for it.
    """

    state: State | None
    queue: str = ""
    location: bytes = b""
    message: Message | None = None
    outcome: Outcome | None = None
    due: int | None = None
    worker: str = ""
    priority: int = 0
    share: str = ""


class Broker(OutcomeStream):
    """One namespace in one Redis; thread-safe. Raises BrokerUnavailable, BrokerFull or BrokerRefused."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        super().__init__(connections, keys)
        self.lanes = LaneCalls(keys)

    @classmethod
    def from_settings(cls, settings: Settings) -> Broker:
        """The broker that TASKQ describes; connects at the first call."""
        return cls(Connections(Location(settings)), Keys(settings.namespace))

    def enqueue(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Sends messages, at most 500 and about 1 MiB a round trip; safe to repeat, and repeated for at most 10 s."""
        if len(submissions) == 1:
            arguments = self._admissions(submissions)
            return _answers(submissions, self._run_for_producer(scripts.ENQUEUE, arguments, submissions[0].message.id))
        lanes: dict[Place, list[int]] = {}
        for position, submission in enumerate(submissions):
            lanes.setdefault(submission.place, []).append(position)
        accepted: dict[int, Accepted] = {}
        for positions in lanes.values():
            answers = self.enqueue_lane(submissions[position] for position in positions)
            accepted.update(zip(positions, answers, strict=True))
        return [accepted[position] for position in range(len(submissions))]

    def enqueue_lane(self, submissions: Iterable[Submission]) -> Iterator[Accepted]:
        """`enqueue` for one lane. While Redis takes one round trip's messages, the next are made."""
        finish: Callable[[], list[Accepted]] | None = None
        for chunk in _chunks(submissions):
            arguments = self._admissions(chunk)
            if finish is not None:
                yield from finish()
            finish = self._start_enqueue(chunk, arguments)
        if finish is not None:
            yield from finish()

    def _start_enqueue(self, chunk: Sequence[Submission], arguments: list[Any]) -> Callable[[], list[Accepted]]:
        """Sends messages, and returns what waits for the answers."""
        started = time.monotonic()
        run = partial(self.connections.run, scripts.ENQUEUE, arguments)
        try:
            reply = self.connections.start(scripts.ENQUEUE, arguments)
        except BrokerUnavailable:
            reply = run
        return lambda: _answers(chunk, self._insist(reply, run, started, chunk[0].message.id))

    def _run_for_producer(self, script: scripts.Script, arguments: list[Any], id: bytes) -> Any:
        run = partial(self.connections.run, script, arguments)
        return self._insist(run, run, time.monotonic(), id)

    @staticmethod
    def _insist(first: Callable[[], T], again: Callable[[], T], started: float, id: bytes) -> T:
        """A producer's patience with a Redis that is away: one attempt, and then others until 10 s have passed."""
        try:
            return first()
        except BrokerUnavailable:
            left = PRODUCER_PATIENCE - (time.monotonic() - started)
            try:
                return retrying(again, left)
            except BrokerUnavailable as error:
                error.id = id_to_str(id)
                raise

    def _admissions(self, submissions: Sequence[Submission]) -> list[Any]:
        """The arguments of enqueue.lua for messages of one lane."""
        arguments = [*self.lanes.head(*submissions[0].place)]
        for submission in submissions:
            arguments += self._admission(submission)
        return arguments

    def _admission(self, submission: Submission) -> list[Any]:
        """One message as broker/lua/lib/admit.lua reads it."""
        message, delay, due, expires_in = submission.message, submission.delay, submission.due, submission.expires_in
        fields = message.fields()
        when = f"+{max(0, delay)}" if delay is not None else "" if due is None else str(due)
        expires = "" if expires_in is None else str(expires_in)
        return [message.id, when, expires, self._idempotency(message), len(fields), *fields]

    def _idempotency(self, message: Message) -> str:
        return self.keys.idempotency(message.task, message.idempotency_key) if message.idempotency_key else ""

    def find(self, ids: Sequence[bytes], patience: float = 2.0) -> list[Found]:
        """Where each task is, in one round trip; tried again for `patience` seconds while Redis is away."""
        arguments = [2, self.keys.index, self.keys.outcomes, self.keys.lane_prefix, self.keys.scheduled_prefix, *ids]
        replies = retrying(lambda: self.connections.run(scripts.FIND, arguments), patience)
        return [_found(reply) for reply in replies]

    def cancel(
        self, ids: Sequence[bytes], reason: str = "cancelled", then: Callable[[Found], None] | None = None
    ) -> list[bool | None]:
        """True: cancelled now. False: a worker holds it and has been asked. None: unknown or ended.

        `then` is called with each that is cancelled now, as it was.
        """
        return [self._cancel(id, reason, then) for id in ids]

    def _cancel(self, id: bytes, reason: str, then: Callable[[Found], None] | None) -> bool | None:
        while True:
            found = self.find([id])[0]
            if found.state is None or found.outcome is not None or found.message is None:
                return None
            outcome = cancelled_outcome(found, reason, self.time())
            arguments = (
                *self.lanes.head(found.queue, found.priority, found.share),
                self.keys.inbox_prefix, id, found.location, encode_outcome(outcome), self._idempotency(found.message),
                activity("cancelled", found.message.task),
            )  # fmt: skip
            code = self.connections.run(scripts.CANCEL, arguments)[0]
            if code == 1 and then is not None:
                then(found)
            if code:  # 0: it has moved since we looked
                return bool(code == 1)

    def requeue(self, message: Message, queue: str) -> bool:
        """Sends a dead letter's message, whose `run` is the new one. False: on its way, or that run has been."""
        arguments = [
            *self.lanes.head(queue, message.priority), message.run, *self._admission(Submission(message, queue)),
        ]  # fmt: skip
        return bool(self._run_for_producer(scripts.REQUEUE, arguments, message.id))

    @contextmanager
    def listen(self, id: bytes) -> Iterator[Listener]:
        """Subscribes to the end of a task. Subscribe first, then look, then wait."""
        listener = Listener(self.connections, self.keys.done_prefix.encode() + id)
        try:
            yield listener
        finally:
            listener.close()

    def time(self) -> float:
        """Redis' clock in epoch seconds."""
        seconds, micros = retrying(lambda: self.connections.execute("TIME"), 2.0)
        return int(seconds) + int(micros) / 1e6


def cancelled_outcome(found: Found, reason: str, now: float) -> Outcome:
    """The outcome of a task that is cancelled before a worker takes it."""
    message = found.message
    if message is None:
        raise ValueError("only a found message can be cancelled")
    return Outcome(
        id=message.id, run=message.run, status=State.CANCELLED, recorded=True, task=message.task, queue=found.queue,
        priority=found.priority, args=message.args, kwargs=message.kwargs, attempts=message.attempt,
        losses=message.losses, enqueued=enqueued_at(message, found.location), finished=now,
        first_started=message.first_started / 1000 if message.first_started else None, reason=reason,
        worker_ids=message.worker_ids, history=message.history, idempotency_key=message.idempotency_key,
    )  # fmt: skip


def enqueued_at(message: Message, location: bytes) -> float | None:
    """When a message was sent, in epoch seconds: its own field, or the id of its entry."""
    if message.enqueued is not None:
        return message.enqueued / 1000
    return int(location.partition(b"-")[0]) / 1000 if location[:1].isdigit() else None


def _found(reply: list[Any]) -> Found:
    if not reply:
        return Found(None)
    location, extra, payload = reply
    kind = location[:1]
    if kind == b"o":
        try:
            outcome = decode_outcome(payload)
        except msgspec.MsgspecError:  # the recorder buries it as malformed
            return Found(
                State.FAILED, "", location, None, Outcome(b"", 0, State.FAILED, recorded=True, reason="malformed")
            )
        return Found(State(outcome.status), outcome.queue, location, None, outcome)
    if kind == b"s":
        suffix, *fields = payload or [b""]  # empty: it cannot be read
        queue, message, due = location[1:].decode(), readable(fields), int(extra)
        return Found(State.SCHEDULED, queue, location, message, None, due, "", *_place(suffix, queue)[1:])
    place = place_of(location.partition(b" ")[2].decode())
    state = State.RUNNING if extra else State.QUEUED
    return Found(state, place.queue, location, readable(payload), None, None, extra.decode(), *place[1:])


def _place(suffix: bytes, queue: str) -> Place:
    """The lane that a packed message names; its queue's plain one where that cannot be read."""
    try:
        return place_of(suffix.decode())
    except ValueError:
        return Place(queue, 0)


def _answers(submissions: Sequence[Submission], taken: Sequence[Any]) -> list[Accepted]:
    """What enqueue.lua returned, for each message: the position and owner of every idempotency key that was taken."""
    answers = [Accepted(submission.message.id, True) for submission in submissions]
    for position, owner in zip(taken[::2], taken[1::2], strict=True):
        answers[position] = Accepted(owner, created=False)
    return answers


def _chunks(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
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
