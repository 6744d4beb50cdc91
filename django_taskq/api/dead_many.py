"""Many dead letters at once: a bounded batch a call, and a cursor that says where the next one begins.

An interruption costs nothing: what was dealt with is dead no longer, so the same call again does the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import router
from django.db.models import Max
from msgspec import UNSET
from msgspec.structs import fields

from django_taskq.api.auth import Actor
from django_taskq.api.dead import matching
from django_taskq.api.errors import ApiError
from django_taskq.api.log import Target, log
from django_taskq.api.paging import Key, clamp, decode_cursor, encode_cursor
from django_taskq.api.schemas_dead import Batch, DiscardedBatch, Filter, Refusal, RequeuedBatch
from django_taskq.models import DeadTask
from django_taskq.requeue import Summary, discard_many, requeue_many

MOST = 500
SHOWN = 20  # reasons of refusals


class Part(NamedTuple):
    """Primary keys of one batch, and where the next begins."""

    keys: list[int]
    following: str | None


def requeue(actor: Actor, body: Batch) -> RequeuedBatch:
    """Requeues a batch of what matches; what is refused stays dead."""
    part, summary = _part(body), Summary()
    try:
        requeue_many(part.keys, summary)
    finally:
        log(actor, "requeue", _counted(summary.sent), "Requeued.", count=summary.sent)
    refused = [Refusal(reason, count) for reason, count in summary.refused.most_common(SHOWN)]
    return RequeuedBatch(len(part.keys), summary.sent, summary.before, refused, part.following)


def discard(actor: Actor, body: Batch) -> DiscardedBatch:
    """Marks a batch of what matches as dealt with."""
    part = _part(body)
    count = discard_many(part.keys)
    log(actor, "discard", _counted(count), "Discarded.", count=count)
    return DiscardedBatch(len(part.keys), count, part.following)


def _part(body: Batch) -> Part:
    if not body.all and all(getattr(body.filter, field.name) is UNSET for field in fields(Filter)):
        raise ApiError(400, "filter_required", "Give a filter, or all: true for every dead letter.")
    rows = matching(body.filter).using(router.db_for_write(DeadTask)).filter(state=DeadTask.State.DEAD)
    if body.cursor:
        after, last = decode_cursor(body.cursor, tuple[Key, Key])
    else:
        after, last = 0, rows.aggregate(last=Max("pk"))["last"] or 0
    limit = clamp(body.limit, MOST)
    keys = list(rows.filter(pk__gt=after, pk__lte=last).order_by("pk").values_list("pk", flat=True)[: limit + 1])
    following = encode_cursor(keys[limit - 1], last) if len(keys) > limit else None
    return Part(keys[:limit], following)


def _counted(count: int) -> Target:
    return Target(DeadTask, None, f"{count} dead letter{'s' if count != 1 else ''}")
