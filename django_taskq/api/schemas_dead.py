"""Dead letters in and out, and what may be done to many of them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from django_taskq.api.schemas import Attempt, Request, Text, Time


class Filter(Request, frozen=True):
    """Which dead letters; what is left out does not matter."""

    task: Text | UnsetType = UNSET
    queue: Text | UnsetType = UNSET
    reason: Text | UnsetType = UNSET
    error_class: Text | UnsetType = UNSET
    fingerprint: Annotated[str, Meta(max_length=16)] | UnsetType = UNSET
    task_id: uuid.UUID | UnsetType = UNSET
    failed_after: Time | UnsetType = UNSET
    failed_before: Time | UnsetType = UNSET


class DeadQuery(Filter, frozen=True):
    """A page of dead letters, newest first. `limit` is brought between 1 and 200."""

    state: Literal["dead", "requeued", "discarded", "all"] = "dead"
    limit: int = 50
    cursor: Text = ""


class Batch(Request, frozen=True):
    """A batch of what matches and is dead, in the order of their ids. `limit` is brought between 1 and 500.

    Without any filter, `all` must be true. Repeat the call with the `next_cursor` it gave, and the same filter, until
    that is null: what failed after the first call is left alone.
    """

    filter: Filter = Filter()
    all: bool = False
    limit: int = 200
    cursor: Text = ""


class DeadLetter(Struct, kw_only=True):
    """A run that failed for good. `fingerprint` is equal for failures of one kind."""

    id: int
    task_id: uuid.UUID
    state: Literal["dead", "requeued", "discarded"]
    task: str
    queue: str
    priority: int
    run: int
    attempts: int
    losses: int
    worker: str
    reason: str
    error_class: str
    error_message: str
    fingerprint: str
    enqueued_at: Time | None
    first_started_at: Time | None
    started_at: Time | None
    failed_at: Time
    closed_at: Time | None  # requeued or discarded


class DeadLetterDetail(DeadLetter):
    """A dead letter, whole. Without `view_arguments`, `args`, `kwargs` and `log` are left out."""

    traceback: str
    history: list[Attempt]
    log: str | UnsetType = UNSET  # the last lines that the last attempt logged
    args: Any = UNSET
    kwargs: Any = UNSET


class DeadLetters(Struct):
    """Newest first."""

    items: list[DeadLetter]
    next_cursor: str | None


class Requeued(Struct):
    """`sent` is false when a later run had been sent before: nothing was sent now."""

    id: int
    task_id: uuid.UUID
    sent: bool


class Discarded(Struct):
    """`changed` is false when it was dead no longer."""

    id: int
    changed: bool


class Refusal(Struct):
    """Why some were not requeued. They stay dead."""

    reason: str
    count: int


class RequeuedBatch(Struct):
    """What came of a batch. `before`: had been requeued already."""

    examined: int
    requeued: int
    before: int
    refused: list[Refusal]
    next_cursor: str | None


class DiscardedBatch(Struct):
    """What came of a batch."""

    examined: int
    discarded: int
    next_cursor: str | None
