"""Tasks: look at one, send one, cancel one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec
from msgspec import UNSET

from django_taskq import outbox
from django_taskq.api.auth import Actor
from django_taskq.api.convert import attempts, redacted, utc
from django_taskq.api.errors import ApiError, not_found
from django_taskq.api.log import Target, log
from django_taskq.api.schemas import Cancelled, Progress, Submission, Submitted, Task
from django_taskq.broker import Found, get_broker
from django_taskq.broker.found import enqueued_at
from django_taskq.broker.worker_states import progress_of
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.handle import get_task
from django_taskq.models import TaskResult, TaskType
from django_taskq.opening import shown_message, shown_outcome, shown_row
from django_taskq.records import find_record
from django_taskq.registry import lookup

UNKNOWN = "Neither the broker nor the records know this task."


def show(actor: Actor, id: uuid.UUID) -> Task:
    """A task, wherever it is: waiting, running, ended, recorded."""
    broker = get_broker()
    [found] = broker.find([id.bytes])
    may = actor.may("view_arguments")
    if found.outcome is not None:
        task = _of_outcome(id, shown_outcome(found.outcome, may=may))
    elif found.state is not None:
        task = _of_message(id, found, may=may)
    elif (record := find_record(id.bytes)) is not None:
        task = _of_record(shown_row(record, may=may))
    elif (waiting := outbox.find(id.bytes)) is not None:
        task = _of_message(id, waiting.found, may=may)
    else:
        raise not_found(UNKNOWN, "unknown_task")
    if found.worker and (told := progress_of(broker.connections, broker.keys, found.worker, found.location)):
        task.progress = Progress(told.current, told.total, told.text)
    if not may:
        task.args = task.kwargs = task.result = task.log = UNSET
    return task


def submit(actor: Actor, body: Submission) -> Submitted:
    """Sends a task that was declared with `api=True`."""
    task = lookup(body.task)
    if task is None or not task.api:
        raise not_found(f"There is no task {body.task!r} that the API may send.", "unknown_task")
    options: dict[str, Any] = {
        name: value
        for name, value in (
            ("queue_name", body.queue), ("priority", body.priority), ("run_after", body.run_after),
            ("expires", body.expires), ("deadline", body.deadline), ("idempotency_key", body.idempotency_key),
        )
        if value is not UNSET
    }  # fmt: skip
    # Whoever waits for room is the client, who is told when to come again; not one of the site's threads.
    call = task.using(**options, enqueue_timeout=0)
    # As the worker will: a date arrives as a date, and what does not fit is refused now.
    args, kwargs = task.bind(msgspec.json.encode(body.args), msgspec.json.encode(body.kwargs))
    handle = call.delay(*args, **kwargs)
    log(actor, "submit", Target(TaskType, handle.id, f"{task.name} {handle.id}"), "Sent.", count=handle.created)
    return Submitted(uuid.UUID(handle.id), handle.created)


def cancel(actor: Actor, id: uuid.UUID) -> Cancelled:
    """Cancels a task that waits; asks the worker to stop one that runs."""
    handle = get_task(str(id))
    cancelled = handle.cancel()
    if cancelled is None:
        raise ApiError(409, "task_ended", f"The task has ended: {handle.status}.")
    log(actor, "cancel", Target(TaskType, id, f"task {id}"), "Cancelled." if cancelled else "Asked to stop.")
    return Cancelled(id, "cancelled" if cancelled else "requested")


def _of_message(id: uuid.UUID, found: Found, *, may: bool) -> Task:
    message, state = found.message, found.state or State.QUEUED
    if message is None:  # it cannot be read
        return Task(id=id, state=state, task="", queue=found.queue, priority=found.priority, run=1, attempts=0)
    message = shown_message(message, may=may)
    return Task(
        id=id, state=state, task=message.task, queue=found.queue, priority=found.priority, run=message.run,
        attempts=message.attempt + (state is State.RUNNING), enqueued_at=utc(enqueued_at(message, found.location)),
        due_at=utc(found.due / 1000 if found.due else None), worker=found.worker,
        history=attempts(map(msgspec.structs.asdict, message.history)), args=redacted(message.args),
        kwargs=redacted(message.kwargs), result=None,
    )  # fmt: skip


def _of_outcome(id: uuid.UUID, ended: Outcome) -> Task:
    duration = None
    if ended.started is not None and ended.finished is not None:
        duration = max(0.0, ended.finished - ended.started)
    return _ended(
        ended, id, State(ended.status), utc(ended.enqueued), utc(ended.started), utc(ended.finished), duration,
        [msgspec.structs.asdict(attempt) for attempt in ended.history],
    )  # fmt: skip


def _of_record(row: TaskResult) -> Task:
    times = (utc(row.enqueued_at), utc(row.started_at), utc(row.finished_at))
    return _ended(row, row.pk, State(row.status), *times, row.duration, row.attempts_history)


def _ended(
    ended: Outcome | TaskResult,
    id: uuid.UUID,
    state: State,
    enqueued: dt.datetime | None,
    started: dt.datetime | None,
    finished: dt.datetime | None,
    duration: float | None,
    history: list[dict[str, Any]],
) -> Task:
    return Task(
        id=id, state=state, task=ended.task, queue=ended.queue, priority=ended.priority, run=ended.run,
        attempts=ended.attempts, enqueued_at=enqueued, started_at=started, finished_at=finished, wait=ended.wait,
        duration=duration, worker=ended.worker, reason=ended.reason, error_class=ended.error_class,
        error_message=ended.error_message, traceback=ended.traceback, result_error=ended.result_error,
        history=attempts(history), args=redacted(ended.args), kwargs=redacted(ended.kwargs),
        result=redacted(ended.result), log=ended.log,
    )  # fmt: skip
