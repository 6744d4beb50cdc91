"""What goes in and out. Requests are decoded and responses encoded by these, and openapi.json is made of them.

Times are RFC 3339, spans seconds. What a request may choose freely has no bounds in the schema where the server clamps
it; everything else that does not fit is refused.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from django_taskq.core.states import State

Time = Annotated[dt.datetime, Meta(tz=True)]
Text = Annotated[str, Meta(max_length=255)]
Count = Annotated[int, Meta(ge=0)]
LONGEST = 315_360_000  # ten years, in seconds
Span = Annotated[float, Meta(ge=0, le=LONGEST)]


class Request(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a client sends: a name that is not known is a mistake, not something to pass over."""


class Error(Struct, kw_only=True, omit_defaults=True):
    """What went wrong. `code` is for programs and stays as it is; `message` is for people."""

    code: str
    message: str
    required: list[str] = []  # permissions that are lacking
    id: str | None = None  # the task that may or may not have been sent


class Failure(Struct):
    """Every answer that is no success."""

    error: Error


# --- tasks ------------------------------------------------------------------------------------------------------------


class Submission(Request, frozen=True):
    """A call of a task that was declared with `api=True`. The arguments must fit its signature and type hints."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: Text | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-100, le=100)] | UnsetType = UNSET
    run_after: Span | Time | UnsetType = UNSET  # seconds from now, or a time
    expires: Span | Time | UnsetType = UNSET
    deadline: Span | Time | UnsetType = UNSET
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET


class Submitted(Struct):
    """`created` is false when the idempotency key was taken: `id` is that of the earlier task."""

    id: uuid.UUID
    created: bool


class Attempt(Struct):
    """An attempt that ended. `how`: failed, timeout, worker_lost, cancelled, retry, unknown_task."""

    number: int
    how: str
    started_at: Time | None
    ended_at: Time | None
    worker: str
    error_class: str
    error_message: str
    traceback: str


class Progress(Struct):
    """What a running task says about itself. `total` is null where it does not know."""

    current: float
    total: float | None
    text: str


class Task(Struct, kw_only=True):
    """A task, wherever it is. Without `view_arguments`, `args`, `kwargs`, `result` and `log` are left out."""

    id: uuid.UUID
    state: State
    task: str
    queue: str
    priority: int
    run: int  # 1, and one more for each time it was requeued
    attempts: int  # begun, the present one included
    enqueued_at: Time | None = None
    due_at: Time | None = None  # of a scheduled one
    started_at: Time | None = None  # its last attempt
    finished_at: Time | None = None
    wait: float | None = None  # from ready to the first start
    duration: float | None = None  # of the last attempt
    worker: str = ""
    progress: Progress | None = None
    reason: str = ""
    error_class: str = ""
    error_message: str = ""
    traceback: str = ""
    result_error: str = ""
    history: list[Attempt] = []  # the attempts before the last
    args: Any = UNSET
    kwargs: Any = UNSET
    result: Any = UNSET
    log: str | UnsetType = UNSET  # the last lines that the last attempt logged


class Cancelled(Struct):
    """`requested`: a worker holds the task and was asked to stop it, which it may not do."""

    id: uuid.UUID
    outcome: Literal["cancelled", "requested"]


# --- queues and workers -----------------------------------------------------------------------------------------------


class Page(Request, frozen=True):
    """A part of a list. `limit` is brought between 1 and 200."""

    limit: int = 50
    cursor: Text = ""  # `next_cursor` of the page before


class Queue(Struct):
    """A queue at this moment. `priorities`: how many are ready at each."""

    name: str
    paused: bool
    ready: int
    running: int
    scheduled: int
    blocked: int
    oldest_at: Time | None
    next_due_at: Time | None
    priorities: dict[str, int]
    max_length: int | None  # of ready and scheduled ones; null: any number


class Queues(Struct):
    """Declared queues, by name."""

    items: list[Queue]
    next_cursor: str | None


class Paused(Struct):
    """`changed` is false where it was so before."""

    queue: str
    paused: bool
    changed: bool


class PausedTask(Struct):
    """`changed` is false where it was so before."""

    task: str
    paused: bool
    changed: bool


class PausedTasks(Struct):
    """Names of tasks whose calls no worker is given."""

    paused: list[str]


class Purged(Struct):
    """How many waiting and scheduled tasks were cancelled. `more`: call again for the rest."""

    queue: str
    cancelled: int
    more: bool


class Running(Struct):
    """A task that a worker runs, as of its last beat."""

    id: uuid.UUID
    task: str
    queue: str
    attempt: int
    started_at: Time | None
    progress: Progress | None


class Worker(Struct, kw_only=True):
    """One task process, as of its last beat."""

    id: str
    state: str
    dead: bool
    host: str
    pid: int
    supervisor: int  # process id
    version: str
    python: str
    django: str
    queues: list[str]
    threads: int
    async_concurrency: int
    started_at: Time | None
    beat_at: Time | None
    rss: int  # bytes
    settled: int
    running: list[Running]


class Workers(Struct):
    """Workers, by id."""

    items: list[Worker]
    next_cursor: str | None


class Controlled(Struct):
    """It reaches the worker with its next beat."""

    id: str
    requested: Literal["quiet", "stop"]
