"""What a person decides about dead letters: send them again, or leave them be. One at a time or a hundred thousand.

Redis comes first, then the row. It refuses an id that is on its way, or whose next run has been: however often a dead
letter is requeued, one run is sent. Whatever dies in between leaves rows dead whose next run was sent; the recorder
closes them when that run ends, and so does the next attempt to requeue them, which sends nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from django.db import router
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from django_taskq.broker import get_broker
from django_taskq.broker.requeue import Answer, requeue_messages
from django_taskq.conf import get_settings
from django_taskq.core.fields import unpack_fields
from django_taskq.core.message import Message, UnknownVersion
from django_taskq.core.sealing import is_sealed_json
from django_taskq.exceptions import KeyMissing, MalformedMessage, TaskqError
from django_taskq.models import DeadTask, TaskResult
from django_taskq.registry import lookup
from django_taskq.sealed import seal_call

BATCH = 500  # dead letters that share their round trips
BATCH_BYTES = 4 * 1_048_576  # of messages that are in memory at a time
SWEPT = 5_000  # primary keys that one query of a sweep finds


class RequeueRefused(TaskqError):
    """The dead letter cannot be requeued."""


class Requeued(StrEnum):
    """What came of requeueing a dead letter that could be."""

    SENT = "sent"  # a new run is on its way now
    BEFORE = "before"  # a later run had been sent already: nothing was sent, the row says so now


class Arguments(NamedTuple):
    """A call's arguments as JSON: an array and an object."""

    args: bytes
    kwargs: bytes


@dataclass(slots=True)
class Summary:
    """What came of many dead letters at once."""

    sent: int = 0
    before: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # reason -> how many
    first: DeadTask | None = None  # the first that was sent


def requeue(dead: DeadTask, arguments: Arguments | None = None) -> Requeued:
    """Starts a new run of a failed task, under its old id, with fresh attempts and without its expiry.

    `arguments` are used instead of the stored ones; they are not checked here. Raises RequeueRefused, which says why,
    DeadTask.DoesNotExist and BrokerUnavailable.
    """
    rows = _rows([dead.pk])
    if not rows:
        raise DeadTask.DoesNotExist(f"Dead letter {dead.pk} has been pruned or deleted.")
    [verdict] = _requeue(rows, arguments)
    if isinstance(verdict, Exception):
        raise verdict
    return verdict


def requeue_many(keys: Sequence[int], summary: Summary) -> None:
    """Requeues dead letters by primary key, in batches that share their round trips, and counts in `summary`.

    `summary` stays true when BrokerUnavailable or BrokerFull ends it early.
    """
    for part in _parts(keys):
        rows = _rows(part)
        summary.refused["It has been pruned or deleted."] += len(part) - len(rows)
        broken: TaskqError | None = None
        for row, verdict in zip(rows, _requeue(rows), strict=True):
            if verdict is Requeued.SENT:
                summary.sent += 1
                summary.first = summary.first or row
            elif verdict is Requeued.BEFORE:
                summary.before += 1
            elif isinstance(verdict, RequeueRefused):
                summary.refused[str(verdict)] += 1
            else:
                broken = verdict
        summary.refused = +summary.refused
        if broken is not None:
            raise broken


def discard(dead: DeadTask) -> bool:
    """Marks a dead letter as dealt with; False when it was no longer dead."""
    return discard_many([dead.pk]) == 1


def discard_many(keys: Sequence[int]) -> int:
    """Marks dead letters by primary key; how many of them were still dead."""
    rows = DeadTask.objects.using(_database()).filter(state=DeadTask.State.DEAD)
    now, parts = timezone.now(), (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
    return sum(rows.filter(pk__in=part).update(state=DeadTask.State.DISCARDED, closed_at=now) for part in parts)


def sweep(rows: QuerySet[DeadTask], after: int = 0) -> Iterator[list[int]]:
    """The primary keys above `after`, upwards, in batches: what is refused stays dead and is not met again."""
    ordered = rows.using(_database()).order_by("pk").values_list("pk", flat=True)
    while keys := list(ordered.filter(pk__gt=after)[:SWEPT]):
        yield from (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
        after = keys[-1]


def _requeue(rows: Sequence[DeadTask], arguments: Arguments | None = None) -> list[Requeued | TaskqError]:
    """What came of each: a few queries and round trips for all."""
    recorded = _recorded_runs(rows)
    verdicts: list[Requeued | TaskqError] = [Requeued.BEFORE] * len(rows)
    messages: dict[int, tuple[Message, str]] = {}  # position -> what is to be sent
    for position, dead in enumerate(rows):
        if dead.state == DeadTask.State.DISCARDED:
            verdicts[position] = RequeueRefused("It has been discarded.")
        elif dead.state == DeadTask.State.DEAD and recorded.get(dead.task_id, 0) <= dead.run:
            try:
                messages[position] = next_run(dead, arguments), dead.queue
            except (RequeueRefused, KeyMissing) as refusal:
                verdicts[position] = refusal
    if messages:
        answers = requeue_messages(get_broker(), list(messages.values()))
        for position, answer in zip(messages, answers, strict=True):
            verdicts[position] = _verdict(answer)
    _close([row.pk for row, verdict in zip(rows, verdicts, strict=True) if isinstance(verdict, Requeued)])
    return verdicts


def _verdict(answer: Answer | TaskqError) -> Requeued | TaskqError:
    if isinstance(answer, TaskqError):
        return answer
    if answer is Answer.BUSY:
        return RequeueRefused("Its id is still on its way through Redis. Try again when that run has ended.")
    return Requeued.SENT if answer is Answer.SENT else Requeued.BEFORE


def next_run(dead: DeadTask, arguments: Arguments | None = None) -> Message:
    """The stored message as a new run: what it gathered on its way is left behind (the row keeps the history).

    Raises RequeueRefused, and KeyMissing for arguments that are to be sealed.
    """
    if dead.queue not in get_settings().queues:
        raise RequeueRefused(f"Its queue {dead.queue!r} is not declared in TASKQ['QUEUES'].")
    message = stored_message(dead)
    message.run = dead.run + 1
    message.attempt = message.losses = 0
    message.enqueued = message.first_started = message.waited = message.expires = message.deadline = None
    message.worker_ids, message.history = [], []
    if arguments is not None:
        was_sealed, task = is_sealed_json(message.args), lookup(message.task)
        message.args, message.kwargs = arguments
        _choose_limits(message)
        if was_sealed or (task is not None and task.encrypt):
            seal_call(message)
    return message


def _choose_limits(message: Message) -> None:
    """Keys of limits are made of arguments. Where these do not fit the task, the worker says so."""
    task = lookup(message.task)
    if task is None or task.gates is None:
        return
    try:
        message.gates = task.gates.of_call(*task.bind(message.args, message.kwargs))
    except TaskqError:
        return


def stored_message(dead: DeadTask) -> Message:
    """The message as it was when it was buried, with its secrets; RequeueRefused where it cannot be read."""
    try:
        return Message.decode(unpack_fields(bytes(dead.raw)))
    except UnknownVersion as error:
        raise RequeueRefused(f"{error} Requeue it from an updated process.") from error
    except MalformedMessage as error:
        raise RequeueRefused(f"Its message is malformed and would be buried again: {error}") from error


def _parts(keys: Sequence[int]) -> Iterator[list[int]]:
    """Primary keys in groups whose messages fit in memory; those without a row are in one, too."""
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        found = DeadTask.objects.using(_database()).filter(pk__in=batch)
        sizes = dict(found.values_list("pk", Length("raw")).order_by())
        part: list[int] = []
        size = 0
        for key in batch:
            if part and size + sizes.get(key, 0) > BATCH_BYTES:
                yield part
                part, size = [], 0
            part.append(key)
            size += sizes.get(key, 0)
        yield part


def _rows(keys: Sequence[int]) -> list[DeadTask]:
    """As they are now, where the recorder writes."""
    columns = ("task_id", "task", "run", "state", "queue", "raw")
    return list(DeadTask.objects.using(_database()).filter(pk__in=keys).order_by("pk").only(*columns))


def _recorded_runs(rows: Sequence[DeadTask]) -> dict[uuid.UUID, int]:
    """Task id -> its newest recorded run."""
    results = TaskResult.objects.using(_database()).filter(pk__in=[row.task_id for row in rows])
    return dict(results.order_by().values_list("pk", "run"))


def _close(keys: Sequence[int]) -> None:
    """These have been sent. One that was discarded meanwhile has been sent nevertheless."""
    if keys:
        open_rows = DeadTask.objects.using(_database()).filter(pk__in=keys).exclude(state=DeadTask.State.REQUEUED)
        open_rows.update(state=DeadTask.State.REQUEUED, closed_at=timezone.now())


def _database() -> str:
    return router.db_for_write(DeadTask)
