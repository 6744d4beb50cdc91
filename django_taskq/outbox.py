"""The transactional outbox: calls are written into the database, in the transaction that is open, and sent by a relay.

Rolled back, they have never been. Committed, they are sent, whatever happens to this process or to Redis meanwhile
(relay.py). Whoever commits tells the relay, which otherwise looks every few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from django.db import connections, router, transaction
from django.db.models import Count
from django.db.models.functions import Now

from django_taskq.broker import Found, Submission, get_broker
from django_taskq.broker import outbox as calls
from django_taskq.broker.connection import retrying
from django_taskq.conf import get_settings
from django_taskq.core.message import Message
from django_taskq.core.states import State
from django_taskq.exceptions import TaskqError
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.registry import all_tasks

logger = logging.getLogger(__name__)

BATCH = 500  # rows a statement
# Seconds without a nudge after one that failed, and five times what the attempt took: a Redis that is away must not
# slow every commit down.
QUIET = 2.0

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Submission).decode


class Waiting(NamedTuple):
    """A task that is in an outbox only. `age`: seconds since it was written, on the database's clock."""

    entry: OutboxEntry
    submission: Submission
    age: float = 0.0

    @property
    def found(self) -> Found:
        """In the form in which Redis would tell of it."""
        submission, place, written = self.submission, self.submission.place, time.time() - self.age
        return Found(
            state_of(submission, written), place.queue, message=submission.message, due=due_at(submission, written),
            priority=place.priority, share=place.share,
        )  # fmt: skip


def write(submissions: Sequence[Submission], database: str | None, then: Callable[[], None] | None = None) -> None:
    """Writes calls, all or none, into `database`, by default that of the open transaction (`current_database`).

    Has the relay told when they are committed, and calls `then`. Raises what the database raises.
    """
    alias = database or current_database()
    if get_settings().is_local:  # there is no relay: what it would do is done at the commit
        transaction.on_commit(lambda: _hand_over(submissions, then), using=alias)
        return
    entries = [
        OutboxEntry(
            task_id=uuid.UUID(bytes=submission.message.id),
            task=submission.message.task,
            queue=submission.queue,
            call=encode(submission),
        )
        for submission in submissions
    ]
    if len(entries) == 1:
        entries[0].save(using=alias, force_insert=True)
    else:
        OutboxEntry.objects.using(alias).bulk_create(entries, batch_size=BATCH)
    connection = connections[alias]
    # Without autocommit and atomic() the project commits by hand, and Django knows no moment to be told.
    if connection.in_atomic_block or connection.get_autocommit():
        _nudges.pending.add(alias)
        transaction.on_commit(lambda: _nudge(alias), using=alias, robust=True)
        if then is not None:
            transaction.on_commit(then, using=alias, robust=True)


def _hand_over(submissions: Sequence[Submission], then: Callable[[], None] | None) -> None:
    get_broker().enqueue(submissions)
    if then is not None:
        then()


def current_database() -> str:
    """The one of TASKQ["OUTBOX_DATABASES"] whose transaction is open; the first where none or several are."""
    aliases = get_settings().outbox_databases
    opened = [alias for alias in aliases if connections[alias].in_atomic_block] if len(aliases) > 1 else []
    return opened[0] if len(opened) == 1 else aliases[0]


# --- telling the relay ------------------------------------------------------------------------------------------------


class _Nudges(threading.local):
    """Databases whose relay is to be told by this thread's next commit: once, however many entries it has."""

    def __init__(self) -> None:
        self.pending: set[str] = set()


_nudges = _Nudges()
_quiet_until = 0.0  # monotonic seconds


def _nudge(alias: str) -> None:
    if alias in _nudges.pending:
        _nudges.pending.discard(alias)
        nudge(alias)


def nudge(alias: str) -> None:
    """Tells the relay of a database. Never raises for Redis' sake: the relay looks by itself, too."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    began = time.monotonic()
    try:
        # Again at once, because an idle connection may have ended with a restart of Redis.
        retrying(lambda: calls.nudge(get_broker(), alias), 0.02)
    except TaskqError as error:
        now = time.monotonic()
        _quiet_until = now + QUIET + 5 * (now - began)
        logger.warning("outbox: tasks wait in the database until Redis is back: %s", error)


# --- what waits -------------------------------------------------------------------------------------------------------


def due_at(submission: Submission, created: float) -> int | None:
    """When it may start, in epoch ms, if it was not to start at once. `created`: epoch seconds."""
    return round(created * 1000) + submission.delay if submission.delay is not None else submission.due


def state_of(submission: Submission, created: float | None = None) -> State:
    """The state of a call that waits, as far as this machine's clock knows. `created`: epoch seconds; None for now."""
    due = due_at(submission, time.time() if created is None else created)
    return State.SCHEDULED if due is not None and due > time.time() * 1000 else State.QUEUED


def find(id: bytes) -> Waiting | None:
    """The entry of a task by its id of 16 bytes, in whatever outbox it is; None when there is none.

    Costs nothing where no task uses the outbox.
    """
    for alias in get_settings().outbox_databases if in_use() else ():
        entry = OutboxEntry.objects.using(alias).filter(task_id=uuid.UUID(bytes=id)).annotate(now=Now()).first()
        if entry is not None:
            return Waiting(entry, read(entry), (entry.now - entry.created_at).total_seconds())
    return None


def read(entry: OutboxEntry) -> Submission:
    """What an entry says; what its columns say, where the call cannot be read."""
    try:
        return decode(entry.call)
    except (msgspec.MsgspecError, ValueError):
        return Submission(Message(entry.task_id.bytes, entry.task), entry.queue)


def cancel(waiting: Waiting, reason: str = "cancelled") -> bool:
    """Ends a task that has not been sent; False when it has been meanwhile. Raises what the broker raises.

    Redis comes first: it knows the id from then on, so no relay sends it, whatever becomes of the row.
    """
    if not calls.withdraw(get_broker(), waiting.submission, State.CANCELLED, reason):
        return False
    waiting.entry.delete()
    return True


class Backlog(NamedTuple):
    """How much is in the outbox of one database. `oldest`: seconds for which its first entry has waited."""

    database: str
    waiting: int
    refused: int
    oldest: float | None


def backlogs() -> list[Backlog]:
    """Of every database that has an outbox, two queries each; none where no task uses it. Raises DatabaseError."""
    return [_backlog(alias) for alias in get_settings().outbox_databases] if in_use() else []


def _backlog(alias: str) -> Backlog:
    rows = OutboxEntry.objects.using(alias).order_by()
    counts = dict(rows.values_list("state").annotate(count=Count("pk")))
    first = rows.filter(state=OutboxEntry.State.WAITING).order_by("pk").values_list("created_at", Now())[:1]
    ages = [(now - created).total_seconds() for created, now in first]
    waiting, refused = (counts.get(state, 0) for state in (OutboxEntry.State.WAITING, OutboxEntry.State.REFUSED))
    return Backlog(alias, waiting, refused, max(0.0, ages[0]) if ages else None)


def in_use() -> bool:
    """Whether any task goes through it."""
    return get_settings().outbox or any(task.outbox for task in all_tasks())


def recorded(ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these have ended and are in the records."""
    results = TaskResult.objects.using(router.db_for_write(TaskResult)).filter(pk__in=ids).order_by()
    return set(results.values_list("pk", flat=True))
