"""Dead letters: lists, one of them, requeue and discard, one or many."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Q, QuerySet
from msgspec import UNSET

from django_taskq import opening
from django_taskq.api.auth import Actor
from django_taskq.api.convert import EPOCH, as_utc, attempts, for_database, redacted, utc
from django_taskq.api.errors import not_found
from django_taskq.api.log import Target, log
from django_taskq.api.paging import Key, Micros, clamp, decode_cursor, encode_cursor
from django_taskq.api.schemas_dead import (
    DeadLetter,
    DeadLetterDetail,
    DeadLetters,
    DeadQuery,
    Discarded,
    Filter,
    Requeued,
)
from django_taskq.models import DeadTask
from django_taskq.opening import shown_row
from django_taskq.requeue import Requeued as Verdict
from django_taskq.requeue import discard as discard_one
from django_taskq.requeue import requeue as requeue_one

_LONG = ("args", "kwargs", "traceback", "history", "log", "raw")
_COLUMNS = ("task", "queue", "reason", "error_class", "fingerprint", "task_id")


def index(query: DeadQuery) -> DeadLetters:
    """Dead letters that match, newest first."""
    limit = clamp(query.limit)
    rows = matching(query).defer(*_LONG)
    if query.state != "all":
        rows = rows.filter(state=query.state)
    if query.cursor:
        micros, last = decode_cursor(query.cursor, tuple[Micros, Key])
        before = for_database(EPOCH + dt.timedelta(microseconds=micros))
        rows = rows.filter(Q(failed_at__lt=before) | Q(failed_at=before, id__lt=last), failed_at__lte=before)
    found = list(rows.order_by("-failed_at", "-id")[: limit + 1])
    following = None
    if len(found) > limit:
        failed = as_utc(found[limit - 1].failed_at)
        following = encode_cursor((failed - EPOCH) // dt.timedelta(microseconds=1), found[limit - 1].pk)
    return DeadLetters([DeadLetter(**_common(row, brief=True)) for row in found[:limit]], following)


def show(actor: Actor, id: int) -> DeadLetterDetail:
    """One dead letter, whole, but for the raw message, which is never shown."""
    hidden = not actor.may("view_arguments")
    row = shown_row(_get(id), may=not hidden)
    return DeadLetterDetail(
        **_common(row),
        traceback=row.traceback,
        history=attempts(row.attempts_history),
        log=UNSET if hidden else row.log,
        args=UNSET if hidden else redacted(row.args),
        kwargs=UNSET if hidden else redacted(row.kwargs),
    )


def requeue(actor: Actor, id: int) -> Requeued:
    """Starts a new run, under the same task id. Called twice, sent once."""
    row = _get(id)
    sent = requeue_one(row) is Verdict.SENT
    log(actor, "requeue", Target(DeadTask, row.pk, str(row)), "Requeued.", count=sent)
    return Requeued(row.pk, row.task_id, sent)


def discard(actor: Actor, id: int) -> Discarded:
    """Marks it as dealt with. Nothing is sent."""
    row = _get(id)
    changed = discard_one(row)
    log(actor, "discard", Target(DeadTask, row.pk, str(row)), "Discarded.", count=changed)
    return Discarded(row.pk, changed)


def matching(chosen: Filter) -> QuerySet[DeadTask]:
    """Dead letters in any state that the filter lets through."""
    rows = DeadTask.objects.all()
    for column in _COLUMNS:
        value = getattr(chosen, column)
        if isinstance(value, str) and "\x00" in value:  # in no database, and PostgreSQL refuses to look for one
            return rows.none()
        if value is not UNSET:
            rows = rows.filter(**{column: value})
    if chosen.failed_after is not UNSET:
        rows = rows.filter(failed_at__gt=for_database(chosen.failed_after))
    if chosen.failed_before is not UNSET:
        rows = rows.filter(failed_at__lt=for_database(chosen.failed_before))
    return rows


def _get(id: int) -> DeadTask:
    row = DeadTask.objects.defer("raw").filter(pk=id).first()
    if row is None:
        raise not_found("There is no dead letter of this id.", "unknown_dead_letter")
    return row


def _common(row: DeadTask, *, brief: bool = False) -> dict[str, Any]:
    error = opening.hidden(row.error_message) if brief else row.error_message
    return {
        "id": row.pk, "task_id": row.task_id, "state": row.state, "task": row.task, "queue": row.queue,
        "priority": row.priority, "run": row.run, "attempts": row.attempts, "losses": row.losses, "worker": row.worker,
        "reason": row.reason, "error_class": row.error_class, "error_message": error,
        "fingerprint": row.fingerprint, "enqueued_at": utc(row.enqueued_at),
        "first_started_at": utc(row.first_started_at), "started_at": utc(row.started_at),
        "failed_at": utc(row.failed_at), "closed_at": utc(row.closed_at),
    }  # fmt: skip
