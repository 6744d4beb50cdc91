"""What a person decides about a dead letter: send it again, or leave it be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from django.db import router
from django.db.models import QuerySet
from django.utils import timezone

from django_taskq.broker import get_broker
from django_taskq.conf import get_settings
from django_taskq.core.message import Message, UnknownVersion, unpack_fields
from django_taskq.exceptions import MalformedMessage, TaskqError
from django_taskq.models import DeadTask
from django_taskq.records import find_record


class RequeueRefused(TaskqError):
    """The dead letter cannot be requeued."""


class Requeued(StrEnum):
    """What came of requeueing a dead letter that could be."""

    SENT = "sent"  # a new run is on its way now
    BEFORE = "before"  # a later run had been sent already: nothing was sent, the row says so now


def requeue(dead: DeadTask) -> Requeued:
    """Starts a new run of a failed task, under its old id, with fresh attempts and without its expiry.

    Redis comes first, then the row. A crash in between leaves the row dead until the recorder sees the new run's
    outcome, and meanwhile the broker refuses the id: however often this is called, one run is sent.

    Raises RequeueRefused, which says why, and BrokerUnavailable.
    """
    dead = DeadTask.objects.using(_database()).get(pk=dead.pk)
    if dead.state == DeadTask.State.REQUEUED:
        return Requeued.BEFORE
    if dead.state == DeadTask.State.DISCARDED:
        raise RequeueRefused("It has been discarded.")
    record = find_record(dead.task_id.bytes)
    if record is not None and record.run > dead.run:
        _close(dead, DeadTask.State.REQUEUED)
        return Requeued.BEFORE
    sent = get_broker().requeue(_next_run(dead), dead.queue)
    if not sent and not _later_run_exists(dead):
        raise RequeueRefused("Its id is still on its way through Redis. Try again when that run has ended.")
    _close(dead, DeadTask.State.REQUEUED)
    return Requeued.SENT if sent else Requeued.BEFORE


def discard(dead: DeadTask) -> bool:
    """Marks a dead letter as dealt with; False when it was no longer dead."""
    return _close(dead, DeadTask.State.DISCARDED)


def discard_all(dead: QuerySet[DeadTask]) -> int:
    """Marks all of them that are dead; how many that were."""
    rows = dead.using(_database()).order_by().filter(state=DeadTask.State.DEAD)
    return rows.update(state=DeadTask.State.DISCARDED, closed_at=timezone.now())


@dataclass(slots=True)
class Summary:
    """What came of many dead letters at once."""

    rows: list[DeadTask] = field(default_factory=list)  # those that were sent
    before: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # reason -> how many

    @property
    def sent(self) -> int:
        """How many were sent."""
        return len(self.rows)


def requeue_many(dead: Iterable[DeadTask], summary: Summary) -> None:
    """Requeues one after the other and counts in `summary`, which stays true when BrokerUnavailable ends it early."""
    for one in dead:
        try:
            if requeue(one) is Requeued.SENT:
                summary.rows.append(one)
            else:
                summary.before += 1
        except DeadTask.DoesNotExist:
            summary.refused["It has been pruned or deleted."] += 1
        except RequeueRefused as refusal:
            summary.refused[str(refusal)] += 1


def _next_run(dead: DeadTask) -> Message:
    """The stored message as a new run: what it gathered on its way is left behind (the row keeps the history)."""
    if dead.queue not in get_settings().queues:
        raise RequeueRefused(f"Its queue {dead.queue!r} is not declared in TASKQ['QUEUES'].")
    try:
        message = Message.decode(unpack_fields(bytes(dead.raw)))
    except UnknownVersion as error:
        raise RequeueRefused(f"{error} Requeue it from an updated process.") from error
    except MalformedMessage as error:
        raise RequeueRefused(f"Its message is malformed and would be buried again: {error}") from error
    message.run = dead.run + 1
    message.attempt = message.losses = 0
    message.enqueued = message.first_started = message.waited = message.expires = None
    message.worker_ids, message.history = [], []
    return message


def _later_run_exists(dead: DeadTask) -> bool:
    """Whether Redis holds a run after the one that made this dead letter, on its way or ended."""
    [found] = get_broker().find([dead.task_id.bytes])
    return any(held is not None and held.run > dead.run for held in (found.message, found.outcome))


def _close(dead: DeadTask, state: DeadTask.State) -> bool:
    still_dead = DeadTask.objects.using(_database()).filter(pk=dead.pk, state=DeadTask.State.DEAD)
    return still_dead.update(state=state, closed_at=timezone.now()) == 1


def _database() -> str:
    return router.db_for_write(DeadTask)
