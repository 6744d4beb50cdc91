"""The broker as producers and handles see it: enqueue, find, cancel, requeue, listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from django_taskq.broker import scripts
from django_taskq.broker.clock import epoch_seconds
from django_taskq.broker.connection import Connections, retrying
from django_taskq.broker.found import Found, cancelled_outcome, found_of
from django_taskq.broker.keys import Keys, Place
from django_taskq.broker.lane import LaneCalls
from django_taskq.broker.listener import Listener
from django_taskq.broker.location import Location
from django_taskq.broker.outcomes import OutcomeStream
from django_taskq.broker.overflow import FULL, Overflow
from django_taskq.broker.submission import Accepted, Submission, answers_of, chunks_of
from django_taskq.core.activity import activity
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.core.outcome import encode_outcome
from django_taskq.exceptions import BrokerUnavailable

if TYPE_CHECKING:
    from django_taskq.conf import Settings
    from django_taskq.queue_options import QueueOptions

T = TypeVar("T")

# Seconds in which a producer's attempts begin; connecting takes the last one 2 more. Shorter than an ended task's id is
# remembered, so a late repetition is refused.
PRODUCER_PATIENCE = 8.0


class Broker(OutcomeStream):
    """One namespace in one Redis; thread-safe. Raises BrokerUnavailable, BrokerFull or BrokerRefused."""

    def __init__(self, connections: Connections, keys: Keys, queues: Mapping[str, QueueOptions] | None = None) -> None:
        """`queues`: those with a maximum length are kept to it. Of others nothing need be known."""
        super().__init__(connections, keys)
        self.lanes, self.overflow = LaneCalls(keys), Overflow(keys, queues or {})

    @classmethod
    def from_settings(cls, settings: Settings) -> Broker:
        """The broker that TASKQ describes; connects at the first call."""
        return cls(Connections(Location(settings)), Keys(settings.namespace), settings.queues)

    def enqueue(self, submissions: Iterable[Submission], patience: float | None = None) -> list[Accepted]:
        """Sends messages, at most 500 and about 1 MiB a round trip; safe to repeat, and repeated for at most 10 s.

        Each round trip's messages of a lane are sent whole or not at all. Raises QueueFull, after `patience` seconds
        (None: the queue's `enqueue_timeout`).
        """
        submissions = list(submissions)
        if len(submissions) == 1 and not self.overflow.drops(submissions[0].queue):
            arguments = self.enqueue_arguments(submissions)
            reply = self._run_for_producer(scripts.ENQUEUE, arguments, submissions[0].message.id)
            return self._answered(submissions, arguments, reply, patience)
        lanes: dict[Place, list[int]] = {}
        for position, submission in enumerate(submissions):
            lanes.setdefault(submission.place, []).append(position)
        accepted: dict[int, Accepted] = {}
        for positions in lanes.values():
            answers = self.enqueue_lane((submissions[position] for position in positions), patience)
            accepted.update(zip(positions, answers, strict=True))
        return [accepted[position] for position in range(len(submissions))]

    def enqueue_lane(self, submissions: Iterable[Submission], patience: float | None = None) -> Iterator[Accepted]:
        """`enqueue` for one lane. While Redis takes one round trip's messages, the next are made."""
        finish: Callable[[], list[Accepted]] | None = None
        for chunk in chunks_of(submissions):
            if self.overflow.drops(chunk[0].queue):
                yield from self._displace(chunk)
                continue
            arguments = self.enqueue_arguments(chunk)
            if finish is not None:
                yield from finish()
            finish = self._start_enqueue(chunk, arguments, patience)
        if finish is not None:
            yield from finish()

    def _start_enqueue(
        self, chunk: Sequence[Submission], arguments: list[Any], patience: float | None
    ) -> Callable[[], list[Accepted]]:
        """Sends messages, and returns what waits for the answers."""
        started, id = time.monotonic(), chunk[0].message.id
        run = partial(self.connections.run, scripts.ENQUEUE, arguments)
        try:
            reply = self.connections.start(scripts.ENQUEUE, arguments)
        except BrokerUnavailable:
            reply = run
        return lambda: self._answered(chunk, arguments, self._insist(reply, run, started, id), patience)

    def _answered(
        self, chunk: Sequence[Submission], arguments: list[Any], reply: Any, patience: float | None
    ) -> list[Accepted]:
        if reply and reply[0] == FULL:
            again = partial(self._run_for_producer, scripts.ENQUEUE, arguments, chunk[0].message.id)
            reply = self.overflow.wait_for_room(chunk[0].queue, reply, patience, again)
        return answers_of(chunk, reply)

    def _displace(self, chunk: Sequence[Submission]) -> list[Accepted]:
        """`enqueue` for a queue whose oldest tasks make room."""
        first, messages = chunk[0], [part for submission in chunk for part in self.lanes.admission(submission)]

        def send(arguments: list[Any]) -> Any:
            return self._run_for_producer(scripts.DISPLACE, arguments, first.message.id)

        return answers_of(chunk, self.overflow.make_room(self.lanes.head(*first.place), messages, send, self.time))

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

    def enqueue_arguments(self, submissions: Sequence[Submission]) -> list[Any]:
        """The arguments of enqueue.lua for messages of one lane."""
        arguments = [*self.lanes.head(*submissions[0].place), self.overflow.bound(submissions[0].queue)]
        for submission in submissions:
            arguments += self.lanes.admission(submission)
        return arguments

    def find(self, ids: Sequence[bytes], patience: float = 2.0) -> list[Found]:
        """Where each task is, in one round trip; tried again for `patience` seconds while Redis is away."""
        arguments = [2, self.keys.index, self.keys.outcomes, self.keys.lane_prefix, self.keys.scheduled_prefix, *ids]
        replies = retrying(lambda: self.connections.run(scripts.FIND, arguments), patience)
        return [found_of(reply) for reply in replies]

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
                self.keys.inbox_prefix, id, found.location, encode_outcome(outcome),
                self.keys.idempotency_of(found.message), activity("cancelled", found.message.task),
            )  # fmt: skip
            code = self.connections.run(scripts.CANCEL, arguments)[0]
            if code == 1 and then is not None:
                then(found)
            if code:  # 0: it has moved since we looked
                return bool(code == 1)

    def requeue(self, message: Message, queue: str) -> bool:
        """Sends a dead letter's message, whose `run` is the new one. False: on its way, or that run has been."""
        submission = Submission(message, queue)
        arguments = [*self.lanes.head(*submission.place), message.run, *self.lanes.admission(submission)]
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
        return epoch_seconds(retrying(lambda: self.connections.execute("TIME"), 2.0))
