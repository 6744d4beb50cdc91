"""The way of a call to the broker: encode, wrap in a message, send, hand out a handle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, transaction

from django_taskq.broker import Accepted, Submission, get_broker
from django_taskq.conf import get_settings
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.states import State
from django_taskq.exceptions import InvalidArguments, InvalidTask, PayloadTooLarge
from django_taskq.handle import TaskHandle
from django_taskq.options import Moment, TaskOptions
from django_taskq.signals import task_enqueued

if TYPE_CHECKING:
    from django_taskq.task import Task

Call = tuple[Sequence[Any], Mapping[str, Any]]
HeaderSource = Callable[["Task[..., Any]", Message], dict[str, str]]

# What the worker takes from the message where the call says otherwise than the task.
_CARRIED = ("max_retries", "timeout", "hard_timeout", "record")

_header_source: HeaderSource | None = None


def set_header_source(source: HeaderSource) -> None:
    """`source` is asked for the headers of each message. (Middleware is a layer above this one, so it comes to us.)"""
    global _header_source
    _header_source = source


@dataclass(frozen=True, slots=True)
class Route:
    """All that the calls of a task, or of one `task.using(...)`, have in common."""

    task: Task[..., Any]
    queue: str
    priority: int
    delay: int | None = None  # ms from the moment of sending
    due: int | None = None  # epoch ms
    expires_in: int | None = None  # ms from the moment of sending
    more: dict[str, Any] = field(default_factory=dict)  # fields of the message that most do without
    database: str = DEFAULT_DB_ALIAS


def route_for(task: Task[..., Any], options: TaskOptions, overrides: Mapping[str, Any]) -> Route:
    """The route of a call, from the task's options and what `using()` was given, both checked already."""

    def chosen(option: str) -> Any:
        return overrides.get(option, getattr(options, option))

    start: Moment | None = chosen("run_after")
    end: Moment | None = chosen("expires")
    more: dict[str, Any] = {}
    if end is not None and not end.relative:
        more["expires"] = end.ms
    if key := chosen("idempotency_key"):
        more |= {"idempotency_key": key, "idempotency_ttl": chosen("idempotency_ttl")}
    if carried := {option: overrides[option] for option in _CARRIED if option in overrides}:
        more["options"] = carried
    return Route(
        task=task,
        queue=chosen("queue_name"),
        priority=chosen("priority"),
        delay=start.ms if start is not None and start.relative else None,
        due=start.ms if start is not None and not start.relative else None,
        expires_in=end.ms if end is not None and end.relative else None,
        more=more,
        database=overrides.get("database", DEFAULT_DB_ALIAS),
    )


def send(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskHandle[Any]:
    """Sends one call; raises InvalidArguments, PayloadTooLarge, QueueFull, BrokerUnavailable."""
    submission = prepare(route, args, kwargs)
    handle: TaskHandle[Any] = TaskHandle(submission.message.id, route.task)
    _accepted(handle, route, get_broker().enqueue((submission,))[0])
    return handle


def send_many(route: Route, calls: Iterable[Call]) -> list[TaskHandle[Any]]:
    """Sends calls, 500 a round trip, after all of them have been found correct. Raises what `send` raises."""
    if "idempotency_key" in route.more:
        raise InvalidTask(
            f"Task {route.task.name}: delay_many() with an idempotency key would send one of the calls only. "
            "Use using(idempotency_key=...).delay() for each."
        )
    submissions = [prepare(route, *_split(route, number, call)) for number, call in enumerate(calls)]
    handles: list[TaskHandle[Any]] = [TaskHandle(submission.message.id, route.task) for submission in submissions]
    if submissions:
        for handle, accepted in zip(handles, get_broker().enqueue(submissions), strict=True):
            _accepted(handle, route, accepted)
    return handles


def send_on_commit(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskHandle[Any]:
    """Checks and encodes the call now; sends it when the surrounding transaction commits, or at once without one."""
    submission = prepare(route, args, kwargs)
    handle: TaskHandle[Any] = TaskHandle(submission.message.id, route.task)
    transaction.on_commit(partial(_send_prepared, handle, route, submission), using=route.database)
    return handle


def prepare(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Submission:
    """The call as a message; raises InvalidArguments or PayloadTooLarge."""
    task = route.task
    encoded_args, encoded_kwargs = task.codec.encode(args, kwargs)
    size, limit = len(encoded_args) + len(encoded_kwargs), get_settings().max_payload_bytes
    if size > limit:
        raise PayloadTooLarge(
            f"{task.name}: the arguments take {size:,} bytes as JSON; TASKQ['MAX_PAYLOAD_BYTES'] allows {limit:,}. "
            "Store the data elsewhere (a file, a row) and pass its id."
        )
    message = Message(new_id(), task.name, encoded_args, encoded_kwargs, route.priority, **route.more)
    if _header_source is not None and (headers := _header_source(task, message)):
        message.headers = headers
    return Submission(message, route.queue, route.delay, route.due, route.expires_in)


def _split(route: Route, number: int, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        args, kwargs = call
        if isinstance(args, tuple | list) and isinstance(kwargs, Mapping):
            return tuple(args), dict(kwargs)
    except (TypeError, ValueError):
        pass
    raise InvalidArguments(
        f"{route.task.name}: delay_many() takes pairs of arguments and keyword arguments, like ((1, 2), {{'a': 'x'}}); "
        f"number {number} is {call!r:.100}."
    )


def _send_prepared(handle: TaskHandle[Any], route: Route, submission: Submission) -> None:
    _accepted(handle, route, get_broker().enqueue((submission,))[0])


def _accepted(handle: TaskHandle[Any], route: Route, accepted: Accepted) -> None:
    # A `due` may be past already, and a task that was there before may be anywhere: the handle asks when it is asked.
    state = None if route.due is not None else State.SCHEDULED if route.delay else State.QUEUED
    handle.accepted(accepted.id, created=accepted.created, state=state if accepted.created else None)
    if task_enqueued.receivers:
        # The task is sent: a receiver that fails is logged by Django and must not make the caller believe otherwise.
        task_enqueued.send_robust(sender=route.task, task_id=handle.id, queue=route.queue, handle=handle)
