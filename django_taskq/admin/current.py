"""One task as Redis knows it, in the shape of the row that it will leave: waiting, scheduled, running or just ended."""

from __future__ import annotations

import datetime as dt
import shlex
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_taskq import outbox
from django_taskq.admin.display import datetime_of
from django_taskq.broker import Broker, Found, get_broker
from django_taskq.broker.found import enqueued_at
from django_taskq.broker.inspector import Inspector, RunningTask
from django_taskq.conf import get_settings
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import ENDED, State
from django_taskq.exceptions import TaskqError
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.redaction import redact_json


@dataclass(slots=True)
class Current:
    """`row` None: Redis does not know the task. `error`: Redis cannot be asked."""

    row: TaskResult | None = None
    state: State | None = None
    due: dt.datetime | None = None
    running: RunningTask | None = None  # as of its worker's last beat
    asked: bool = False  # to end, by a cancel that its worker has not obeyed yet
    hint: str = ""  # why a waiting task waits
    command: str = ""  # what to do about it
    error: str = ""

    @property
    def percent(self) -> int | None:
        """How far a running task says it is; None where it does not know its end."""
        share = self.running.progress.share if self.running is not None and self.running.progress is not None else None
        return None if share is None else round(share * 100)

    @property
    def is_active(self) -> bool:
        """Whether it is still to end."""
        return self.state is not None and self.state not in ENDED


def current(id: bytes) -> Current:
    """What Redis knows; two round trips, and a few more for a running task. Raises nothing for Redis' sake."""
    try:
        return _ask(get_broker(), id)
    except (TaskqError, ImproperlyConfigured) as error:
        return Current(error=str(error))


def _ask(broker: Broker, id: bytes) -> Current:
    [found] = broker.find([id], patience=0.0)
    if found.state is None:
        return _unsent(id)
    if found.outcome is not None:
        return Current(_of_outcome(found.outcome, id, _settled(found)), found.state)
    now = Current(_of_message(found, id), found.state, due=None if found.due is None else datetime_of(found.due / 1000))
    if found.state is State.QUEUED:
        _explain(broker, found.queue, now)
    if found.state is State.BLOCKED:
        _explain_block(found, now)
    if found.state is State.RUNNING:
        now.asked = bool(broker.connections.execute("HEXISTS", broker.keys.cancels, id))
        text = id_to_str(id)
        workers = Inspector(broker).workers()
        now.running = next((task for worker in workers for task in worker.running if task.id == text), None)
    return now


def _unsent(id: bytes) -> Current:
    """A task that is still in the outbox."""
    waiting = outbox.find(id)
    if waiting is None:
        return Current()
    found, entry = waiting.found, waiting.entry
    now = Current(_of_message(found, id), found.state, due=None if found.due is None else datetime_of(found.due / 1000))
    if entry.state == OutboxEntry.State.REFUSED:
        now.hint = _("Redis refused it, and it stays in the outbox: %(error)s") % {"error": entry.error}
    else:
        now.hint, now.command = _("It is in the outbox. A worker sends it."), "manage.py taskq_worker"
    return now


def _explain_block(found: Found, now: Current) -> None:
    """What a parked task waits for."""
    kind, _colon, name = found.waits_for.partition(":")
    if kind == "paused":
        now.hint = _("Its task is paused.")
        now.command = f"manage.py taskq_queue resume --task {shlex.quote(name)}"  # it is copied into a shell
    elif kind == "queue":
        now.hint = _("As many tasks of its queue run as max_concurrency allows.")
    else:
        now.hint = _("As many calls run as max_concurrency allows: %(limit)s.") % {"limit": name}


def _explain(broker: Broker, queue: str, now: Current) -> None:
    """Why a task that is ready does not run."""
    inspector = Inspector(broker)
    [state] = inspector.queues([queue])
    serving = [worker for worker in inspector.workers() if queue in worker.queues and not worker.dead]
    if queue not in get_settings().queues:
        now.hint = _("Its queue is not declared in TASKQ['QUEUES'], so no worker serves it.")
    elif state.paused:
        now.hint, now.command = _("Its queue is paused."), f"manage.py taskq_queue resume {queue}"
    elif not serving:
        now.hint, now.command = _("No worker serves its queue."), f"manage.py taskq_worker --queues {queue}"
    elif state.ready > 1:
        text = ngettext("%(count)d task is ready in its queue.", "%(count)d tasks are ready in its queue.", state.ready)
        now.hint = text % {"count": state.ready}


def _of_message(found: Found, id: bytes) -> TaskResult:
    message = found.message or Message(id, "")  # one that cannot be read is buried by whoever claims it
    return TaskResult(
        id=uuid.UUID(bytes=id),
        run=message.run,
        status=str(found.state),
        task=message.task,
        queue=found.queue,
        priority=found.priority,
        args=_json(message.args),
        kwargs=_json(message.kwargs),
        attempts=message.attempt,
        losses=message.losses,
        worker=found.worker,
        history=_history(message.history),
        enqueued_at=datetime_of(enqueued_at(message, found.location)),
        first_started_at=datetime_of(message.first_started / 1000 if message.first_started else None),
        wait=message.waited_seconds,
    )


def _of_outcome(outcome: Outcome, id: bytes, settled: dt.datetime) -> TaskResult:
    started, finished = outcome.started, outcome.finished
    return TaskResult(
        id=uuid.UUID(bytes=id),
        run=outcome.run,
        status=outcome.status,
        task=outcome.task,
        queue=outcome.queue,
        priority=outcome.priority,
        args=_json(outcome.args),
        kwargs=_json(outcome.kwargs),
        attempts=outcome.attempts,
        losses=outcome.losses,
        worker=outcome.worker,
        reason=outcome.reason,
        error_class=outcome.error_class,
        error_message=outcome.error_message,
        traceback=outcome.traceback,
        log=outcome.log,
        history=_history(outcome.history),
        result=None if outcome.result is None else _json(outcome.result),
        result_error=outcome.result_error,
        enqueued_at=datetime_of(outcome.enqueued),
        first_started_at=datetime_of(outcome.first_started),
        started_at=datetime_of(started),
        finished_at=datetime_of(finished) or settled,
        wait=outcome.wait,
        duration=None if started is None or finished is None else max(0.0, finished - started),
    )


def _settled(found: Found) -> dt.datetime:
    """When the outcome was written, which the id of its entry says."""
    milliseconds = found.location[1:].partition(b"-")[0]
    return datetime_of(int(milliseconds) / 1000 if milliseconds.isdigit() else None) or dt.datetime.now(dt.UTC)


def _json(raw: bytes) -> str:
    return redact_json(raw).decode("utf-8", "backslashreplace")


def _history(attempts: list[Attempt]) -> str:
    values: list[dict[str, Any]] = [msgspec.structs.asdict(attempt) for attempt in attempts]
    return msgspec.json.encode(values).decode()
