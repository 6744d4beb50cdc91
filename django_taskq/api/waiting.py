"""Tasks that have not ended, one by one: those of a queue, and those that a limit holds up."""

from __future__ import annotations

import uuid

from django_taskq.api.convert import utc
from django_taskq.api.errors import ApiError
from django_taskq.api.paging import clamp, decode_cursor, encode_cursor
from django_taskq.api.queues import inspector_of
from django_taskq.api.schemas import Page
from django_taskq.api.schemas_limits import QueuedTask, QueuedTasks, TasksQuery
from django_taskq.broker import get_broker, listing
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.listing import QueuedMessage
from django_taskq.core.states import State


def of_queue(queue: str, query: TasksQuery) -> QueuedTasks:
    """What waits in a queue or runs, or what is scheduled for it, or blocked."""
    inspector, count, state = inspector_of(queue), clamp(query.limit), query.state
    cursor = _position(query.cursor)
    try:
        page = inspector.messages(
            queue, scheduled=state == "scheduled", blocked=state == "blocked", cursor=cursor, count=count
        )
    except ValueError as error:
        raise _not_ours() from error
    return _page(page)


def of_limit(limit: str, query: Page) -> QueuedTasks:
    """What waits for a limit (a name that `limits` lists) or for a paused task, the longest there first."""
    cursor = _position(query.cursor)
    try:
        return _page(Inspector(get_broker()).waiting_for(limit, cursor=cursor, count=clamp(query.limit)))
    except ValueError as error:
        raise _not_ours() from error


def _page(page: listing.Page) -> QueuedTasks:
    following = encode_cursor(page.following) if page.following else None
    return QueuedTasks([_described(message) for message in page.messages], following)


def _position(cursor: str) -> str:
    return decode_cursor(cursor, tuple[str])[0] if cursor else ""


def _not_ours() -> ApiError:
    return ApiError(400, "invalid_cursor", "The cursor is not one that this list gave.")


def _described(queued: QueuedMessage) -> QueuedTask:
    message = queued.message
    return QueuedTask(
        id=uuid.UUID(bytes=message.id) if message is not None and len(message.id) == 16 else None,
        state=queued.state, task=message.task if message is not None else "", queue=queued.queue,
        priority=queued.priority,
        attempts=message.attempt + (queued.state is State.RUNNING) if message is not None else 0,
        enqueued_at=utc(queued.enqueued), due_at=utc(queued.due), worker=queued.worker, waits_for=queued.waits_for,
    )  # fmt: skip
