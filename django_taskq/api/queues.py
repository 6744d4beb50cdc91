"""Queues: how full they are; pause, resume, purge."""

from __future__ import annotations

from django_taskq.api.auth import Actor
from django_taskq.api.convert import utc
from django_taskq.api.errors import not_found
from django_taskq.api.log import Target, log
from django_taskq.api.paging import by_name
from django_taskq.api.schemas import Page, Paused, Purged, Queue, Queues
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, QueueState
from django_taskq.conf import get_settings, max_length_of
from django_taskq.models import Queue as QueueModel

BATCHES = 20  # of 500 tasks, that one call purges


def index(query: Page) -> Queues:
    """The declared queues."""
    names, following = by_name(list(get_settings().queues), str, query.limit, query.cursor)
    return Queues([_described(state) for state in Inspector(get_broker()).queues(names)], following)


def show(queue: str) -> Queue:
    """One queue."""
    return _described(inspector_of(queue).queues([queue])[0])


def pause(actor: Actor, queue: str) -> Paused:
    """No worker claims from it any more."""
    return _set(actor, queue, paused=True)


def resume(actor: Actor, queue: str) -> Paused:
    """Undoes a pause."""
    return _set(actor, queue, paused=False)


def purge(actor: Actor, queue: str) -> Purged:
    """Cancels what waits in it and what is scheduled, up to 10,000 a call. What runs is left alone."""
    inspector, counts = inspector_of(queue), []

    def progress(count: int) -> None:
        counts.append(count)
        if len(counts) == BATCHES:
            raise _Enough

    more = False
    try:
        inspector.purge(queue, progress=progress)
    except _Enough:
        [left] = inspector.queues([queue])
        more = left.ready + left.scheduled + left.blocked > 0
    finally:
        count = counts[-1] if counts else 0
        log(actor, "purge", _target(queue), f"Purged: {count} cancelled.", count=count)
    return Purged(queue, count, more)


class _Enough(Exception):
    """For one call."""


def _set(actor: Actor, queue: str, *, paused: bool) -> Paused:
    inspector = inspector_of(queue)
    changed = (inspector.pause if paused else inspector.resume)(queue)
    action, message = ("pause", "Paused.") if paused else ("resume", "Resumed.")
    log(actor, action, _target(queue), message, count=changed)
    return Paused(queue, paused, changed)


def inspector_of(queue: str) -> Inspector:
    """Raises ApiError 404 for a queue that is not declared."""
    if queue not in get_settings().queues:
        raise not_found(f"No queue {queue!r} is declared.", "unknown_queue")
    return Inspector(get_broker())


def _target(queue: str) -> Target:
    return Target(QueueModel, queue, f"queue {queue}")


def _described(state: QueueState) -> Queue:
    return Queue(
        state.name, state.paused, state.ready, state.running, state.scheduled, state.blocked,
        utc(state.oldest), utc(state.next_due),
        {str(priority): count for priority, count in state.priorities.items()}, max_length_of(state.name),
    )  # fmt: skip
