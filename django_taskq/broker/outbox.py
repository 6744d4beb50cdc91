"""What the outbox needs of Redis: one relay at a time, sending under its lease, nudges, ends of what was never sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django_taskq.broker import scripts
from django_taskq.broker.broker import Broker
from django_taskq.broker.found import Found, ended_waiting
from django_taskq.broker.listener import Listener
from django_taskq.broker.overflow import FULL
from django_taskq.broker.scripts import Script
from django_taskq.broker.submission import Accepted, Submission, answers_of
from django_taskq.core.activity import activity
from django_taskq.core.outcome import encode_outcome
from django_taskq.core.states import State

# Shorter than an ended task's id is remembered: whoever looked for ids before he sends them, under one lease, has not
# missed one that was sent, run, recorded and forgotten in between.
LEASE_MS = 10_000


class LeaseLost(Exception):
    """Another relay may be sending; nothing was sent."""


class RelayLease:
    """The right to send what is in the outbox of one database. Raises what the broker raises, repeats nothing."""

    def __init__(self, broker: Broker, database: str, owner: str) -> None:
        self._broker, self._owner = broker, owner
        self._key, self._token = broker.keys.relay_prefix + database, 0

    def take(self, ttl_ms: int = LEASE_MS) -> bool:
        """Takes or renews the lease; False when another relay holds it. What was begun before counts no more."""
        token = self._broker.connections.run(scripts.RELAY_LEASE, (1, self._key, self._owner, ttl_ms))
        self._token = token or 0
        return token is not None

    def give_up(self) -> None:
        """Another relay may go on at once."""
        self.take(0)

    def send(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Sends messages of one lane, at most 500 and about 1 MiB: all or none. Raises LeaseLost and QueueFull."""
        broker, queue = self._broker, submissions[0].queue
        if broker.overflow.drops(queue):
            messages = [part for submission in submissions for part in broker.lanes.admission(submission)]
            head, send = broker.lanes.head(*submissions[0].place), partial(self._run, scripts.RELAY_DISPLACE)
            return answers_of(submissions, broker.overflow.make_room(head, messages, send, broker.time))
        reply = self._run(scripts.RELAY, broker.enqueue_arguments(submissions))
        if reply and reply[0] == FULL:
            raise broker.overflow.full(queue, *reply[1:])
        return answers_of(submissions, reply)

    def _run(self, script: Script, arguments: list[Any]) -> Any:
        """A producer's script behind the fence (lib/fence.lua)."""
        count, *rest = arguments
        fenced = [count + 1, *rest[:count], self._key, *rest[count:], self._owner, self._token]
        reply = self._broker.connections.run(script, fenced)
        if reply is None:
            raise LeaseLost
        return reply


def withdraw(broker: Broker, submission: Submission, state: State, reason: str) -> bool:
    """Ends a task that has not been sent, as cancelled or discarded; False when Redis knows it already."""
    message, place = submission.message, submission.place
    found = Found(None, place.queue, b"", message, priority=place.priority)
    outcome = ended_waiting(found, state, reason, broker.time())
    arguments = (
        *broker.lanes.head(*place), message.id, state.value, encode_outcome(outcome),
        activity(state.value, message.task),
    )  # fmt: skip
    return bool(broker.connections.run(scripts.WITHDRAW, arguments))


def nudge(broker: Broker, database: str) -> None:
    """Tells the relay of a database that there is something to send. Lost where nobody listens.

    Whoever commits waits for it, so a Redis that does not answer is not waited for.
    """
    broker.connections.hasty.execute("PUBLISH", broker.keys.nudge_prefix + database, "")


def nudges(broker: Broker, database: str) -> Listener:
    """A subscription to the nudges of a database."""
    return Listener(broker.connections, (broker.keys.nudge_prefix + database).encode())
