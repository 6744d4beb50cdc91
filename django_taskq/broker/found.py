"""Where Redis has a task, and the outcome of one that ends there before a worker takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from django_taskq.broker.keys import Place, place_of
from django_taskq.core.fields import named, readable
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, decode_outcome
from django_taskq.core.states import State


class Found(NamedTuple):
    """Where Redis has a task; `state` None: it does not know the id. `due` is epoch ms, `worker` the holder's id.

    `priority` and `share` are those of the lane it is in, or that waits for it; `held_for` is how long its
    worker has held it, in ms.
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
    held_for: int = 0
    waits_for: str = ""  # the limit that a blocked one waits for


def found_of(reply: list[Any]) -> Found:
    """What find.lua returned for one task."""
    if not reply:
        return Found(None)
    location, extra, payload, *held = reply
    kind = location[:1]
    if kind == b"o":
        return _ended(location, payload)
    if kind in (b"p", b"s"):
        return _apart(location, extra, payload)
    place = place_of(location.partition(b" ")[2].decode())
    return Found(
        State.RUNNING if extra else State.QUEUED, place.queue, location, readable(payload), worker=extra.decode(),
        priority=place.priority, share=place.share, held_for=held[0] if held else 0,
    )  # fmt: skip


def _ended(location: bytes, payload: bytes) -> Found:
    try:
        outcome = decode_outcome(payload)
    except msgspec.MsgspecError:  # the recorder buries it as malformed
        outcome = Outcome(b"", 0, State.FAILED, recorded=True, reason="malformed")
    return Found(State(outcome.status), outcome.queue, location, outcome=outcome)


def _apart(location: bytes, due: bytes, payload: list[bytes]) -> Found:
    """A task in the schedule, or among the parked, with the lane that waits for it."""
    suffix, *fields = payload or [b""]  # empty: it cannot be read
    queue = location[1:].decode()
    place, message = _place(suffix, queue), readable(fields)
    if location[:1] == b"s":
        return Found(
            State.SCHEDULED, queue, location, message, due=int(due), priority=place.priority, share=place.share
        )
    limit = named(fields).get(b"z", b"").decode().split(" ", 2)[-1]
    return Found(State.BLOCKED, queue, location, message, priority=place.priority, share=place.share, waits_for=limit)


def _place(suffix: bytes, queue: str) -> Place:
    """The lane that a packed message names; its queue's plain one where that cannot be read."""
    try:
        return place_of(suffix.decode())
    except ValueError:
        return Place(queue, 0)


def cancelled_outcome(found: Found, reason: str, now: float) -> Outcome:
    """The outcome of a task that is cancelled before a worker takes it."""
    return ended_waiting(found, State.CANCELLED, reason, now)


def ended_waiting(found: Found, state: State, reason: str, now: float) -> Outcome:
    """The outcome of a task that no worker holds."""
    message = found.message
    if message is None:
        raise ValueError("only of a message that was found can be said how it ended")
    return Outcome(
        id=message.id, run=message.run, status=state, recorded=True, task=message.task, queue=found.queue,
        priority=found.priority, args=message.args, kwargs=message.kwargs, attempts=message.attempt,
        losses=message.losses, enqueued=enqueued_at(message, found.location), finished=now,
        first_started=message.first_started / 1000 if message.first_started else None, reason=reason,
        worker_ids=message.worker_ids, history=message.history, idempotency_key=message.idempotency_key,
        origin=message.origin,
    )  # fmt: skip


def enqueued_at(message: Message, location: bytes) -> float | None:
    """When a message was sent, in epoch seconds: its own field, or the id of its entry."""
    if message.enqueued is not None:
        return message.enqueued / 1000
    return int(location.partition(b"-")[0]) / 1000 if location[:1].isdigit() else None
