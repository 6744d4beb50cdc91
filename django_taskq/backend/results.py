"""Tasks as results of `django.tasks`, wherever they are: a message in Redis, an outcome, a row.

A project's tasks may be imported before its apps are ready, so what knows models is imported where it is used.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from django.conf import settings
from django.utils.timezone import get_default_timezone

from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Attempt, Message
from django_taskq.core.states import ENDED, State
from django_taskq.registry import lookup

if TYPE_CHECKING:
    from django_taskq.backend.adapted import AdaptedTask
    from django_taskq.backend.framework import Framework
    from django_taskq.core.outcome import Outcome
    from django_taskq.models import TaskResult

_ERRORS = "django_taskq.exceptions"
# For ends without an exception of the task's own.
_STAND_INS = {State.CANCELLED: f"{_ERRORS}.TaskCancelled"}


class Origin(NamedTuple):
    """What a message carries of its call, for `django.tasks` alone."""

    alias: str = ""  # of the backend; '' for what was not sent through one
    run_after: dt.datetime | None = None
    enqueued: int | None = None  # epoch ms, as `enqueue()` told its caller

    def encoded(self) -> str:
        """JSON, ASCII."""
        run_after = None if self.run_after is None else self.run_after.isoformat()
        return json.dumps([self.alias, run_after, self.enqueued])

    @classmethod
    def decode(cls, text: str) -> Origin:
        """An empty one where there is none, or nobody can read it."""
        try:
            alias, run_after, enqueued = json.loads(text)[:3]
            at = None if run_after is None else dt.datetime.fromisoformat(run_after)
            return cls(str(alias), at, None if enqueued is None else int(enqueued))
        except (ValueError, TypeError, KeyError):
            return cls()


@dataclass(slots=True)
class Known:
    """What is known of a task."""

    id: str
    task: str
    queue: str
    priority: int
    state: State
    origin: Origin
    args: bytes | str
    kwargs: bytes | str
    sent: dt.datetime | None  # as Redis knows it
    first_started: dt.datetime | None = None
    started: dt.datetime | None = None
    finished: dt.datetime | None = None
    workers: list[str] = field(default_factory=list)  # one for each attempt, '' for one that is forgotten
    errors: list[tuple[str, str]] = field(default_factory=list)  # class, traceback
    result: bytes | str | None = None

    def start(self, worker: str, at: dt.datetime | None) -> None:
        """An attempt is under way."""
        self.workers.append(worker)
        self.started, self.first_started = at, self.first_started or at

    def later(self, at: dt.datetime | None) -> dt.datetime | None:
        """Not before it was sent: producers and workers know Redis' clock to a millisecond or so."""
        return at if at is None or self.enqueued is None else max(at, self.enqueued)

    @property
    def enqueued(self) -> dt.datetime | None:
        """When it was sent."""
        told = self.origin.enqueued
        return self.sent if told is None else moment(told / 1000)


def moment(seconds: float | None) -> dt.datetime | None:
    """Epoch seconds as a datetime of this project, aware or naive."""
    if seconds is None:
        return None
    if settings.USE_TZ:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    return dt.datetime.fromtimestamp(seconds, get_default_timezone()).replace(tzinfo=None)


def of_message(message: Message, queue: str, priority: int, state: State) -> Known:
    """A task that has not ended. An attempt under way is not counted yet: see `Known.start`."""
    from django_taskq.opening import shown_message

    message = shown_message(message, may=True, redact=False)
    last = [each for each in message.history if each.worker]
    return Known(
        id_to_str(message.id), message.task, queue, priority, state, Origin.decode(message.origin),
        message.args, message.kwargs,
        sent=moment(None if message.enqueued is None else message.enqueued / 1000),
        first_started=moment(None if message.first_started is None else message.first_started / 1000),
        started=moment(last[-1].started) if last else None,
        workers=_workers(message.history, message.attempt, ""),
        errors=_errors(message.history),
    )  # fmt: skip


def of_outcome(ending: Outcome) -> Known:
    """A task that has ended and is still in Redis. Raises KeyMissing or Undecryptable."""
    outcome = cast("Outcome", _opened(ending))
    state = State(outcome.status)
    return Known(
        id_to_str(outcome.id), outcome.task, outcome.queue, outcome.priority, state, Origin.decode(outcome.origin),
        outcome.args, outcome.kwargs, moment(outcome.enqueued), moment(outcome.first_started),
        moment(outcome.started), moment(outcome.finished),
        workers=_workers(outcome.history, outcome.attempts, outcome.worker),
        errors=_all_errors(state, outcome, outcome.history),
        result=outcome.result,
    )  # fmt: skip


def of_record(ending: TaskResult) -> Known:
    """A task that has ended, from the database. Raises KeyMissing or Undecryptable."""
    row = cast("TaskResult", _opened(ending))
    state, history = State(row.status), [attempt for each in row.attempts_history if (attempt := _attempt(each))]
    return Known(
        str(row.id), row.task, row.queue, row.priority, state, Origin.decode(row.origin or ""), row.args, row.kwargs,
        row.enqueued_at, row.first_started_at, row.started_at, row.finished_at,
        workers=_workers(history, row.attempts, row.worker),
        errors=_all_errors(state, row, history),
        result=row.result,
    )  # fmt: skip


def result_of(framework: Framework, task: AdaptedTask, known: Known, alias: str) -> Any:
    """The TaskResult of an edition of `django.tasks`."""
    status = framework.status
    if known.state not in ENDED:
        shown = status.RUNNING if known.state is State.RUNNING else status.READY
    else:
        shown = status.FAILED if known.errors and known.state is not State.SUCCEEDED else status.SUCCESSFUL
    return framework.make_result(
        task=framework.make_task(
            task.task_class, func=task.function, priority=known.priority, backend=alias, queue_name=known.queue,
            run_after=known.origin.run_after, takes_context=task.passes_context,
        ),
        id=known.id, status=shown, enqueued_at=known.enqueued, started_at=known.later(known.first_started),
        last_attempted_at=known.later(known.started), finished_at=known.later(known.finished),
        args=_json(known.args, list), kwargs=_json(known.kwargs, dict), backend=alias,
        errors=[error_of(framework, *error) for error in known.errors], worker_ids=known.workers,
        return_value=task.codec.decode_result(known.result) if shown == status.SUCCESSFUL else None,
    )  # fmt: skip


def error_of(framework: Framework, error_class: str, traceback: str) -> Any:
    """A TaskError. Built-in exceptions are stored without their module."""
    path = error_class if "." in error_class else f"builtins.{error_class}"
    return framework.error_class(exception_class_path=path, traceback=traceback)


def _opened(ending: Outcome | TaskResult) -> Outcome | TaskResult:
    from django_taskq.opening import opened_end

    task = lookup(ending.task)
    encrypts = task is not None and task.encrypt
    return opened_end(ending, succeeded=ending.status == State.SUCCEEDED, encrypts=encrypts)


def _workers(history: list[Attempt], attempts: int, last: str) -> list[str]:
    """Who made each attempt. The history keeps the last ten."""
    by_number = {each.number: each.worker for each in history if each.worker}
    if attempts:
        by_number.setdefault(attempts, last)
    return [by_number.get(number, "") for number in range(1, attempts + 1)]


def _errors(history: list[Attempt]) -> list[tuple[str, str]]:
    return [(each.error_class, each.traceback or each.error_message) for each in history if each.error_class]


def _all_errors(state: State, end: Outcome | TaskResult, history: list[Attempt]) -> list[tuple[str, str]]:
    """Those of all attempts: the last one's stands in the outcome in full, and perhaps in the history in short."""
    if state is State.SUCCEEDED:
        return _errors(history)
    if history and history[-1].number == end.attempts and history[-1].how in ("failed", "timeout"):
        history = history[:-1]
    last = (
        (end.error_class, end.traceback or end.error_message)
        if end.error_class
        else (_STAND_INS.get(state, f"{_ERRORS}.TaskFailed"), f"{end.reason}: {end.error_message}".strip(": "))
    )
    return [*_errors(history), last]


def _attempt(fields: dict[str, Any]) -> Attempt | None:
    try:
        return Attempt(**fields)
    except TypeError:  # of a later version
        return None


def _json(text: bytes | str, kind: type[Any]) -> Any:
    """Decoded, or empty where it is not of that kind (a hidden secret, another producer's mistake)."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return kind()
    return value if isinstance(value, kind) else kind()
