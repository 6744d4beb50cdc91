"""What holds tasks up, and what waits, in and out."""

from __future__ import annotations

import uuid
from typing import Literal

from msgspec import Struct

from django_taskq.api.schemas import Page, Time
from django_taskq.core.states import State


class TasksQuery(Page, frozen=True):
    """`waiting`: for a worker, or held by one. `scheduled`: for their time. `blocked`: for a limit, or while paused."""

    state: Literal["waiting", "scheduled", "blocked"] = "waiting"


class QueuedTask(Struct, kw_only=True):
    """A task that has not ended. `id` is null, and `task` empty, where its message cannot be read."""

    id: uuid.UUID | None
    state: State
    task: str
    queue: str
    priority: int
    attempts: int  # begun, the present one included
    enqueued_at: Time | None
    due_at: Time | None  # of a scheduled one
    worker: str  # that holds it
    waits_for: str  # the limit that blocks it


class QueuedTasks(Struct):
    """In the order in which they go on. A page may be shorter than asked for, and have a next one."""

    items: list[QueuedTask]
    next_cursor: str | None


class LimitInUse(Struct):
    """`limit`: `task:<name>`, `task:<name>:<key>`, `queue:<name>`, or `paused:<task>`."""

    limit: str
    holders: int
    waiting: int


class LimitsInUse(Struct):
    """Up to 200, those with most waiting first."""

    items: list[LimitInUse]


class Breaker(Struct):
    """`tried_at`: when the next call may try. `failures`: those that a closed one remembers."""

    name: str
    state: Literal["closed", "open", "half_open"]
    tried_at: Time | None
    probing: bool
    failures: int


class Breakers(Struct):
    """Circuit breakers, by name."""

    items: list[Breaker]
    next_cursor: str | None


class ClosedBreaker(Struct):
    """`changed` is false where it was closed before."""

    breaker: str
    changed: bool
