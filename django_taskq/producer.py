"""The way of a call to the broker: encode, wrap in a message, send, hand out a handle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import transaction

from django_taskq import announcements
from django_taskq.broker import Accepted, Submission, get_broker
from django_taskq.broker.overflow import DROPPED, tell_of_dropped
from django_taskq.conf import get_settings
from django_taskq.context import inherited_deadline
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import InvalidArguments, InvalidTask, PayloadTooLarge
from django_taskq.handle import TaskHandle
from django_taskq.route import Route
from django_taskq.sealed import seal_call
from django_taskq.signals import task_enqueued

if TYPE_CHECKING:
    from django_taskq.task import Task

Call = tuple[Sequence[Any], Mapping[str, Any]]
HeaderSource = Callable[["Task[..., Any]", Message], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Sending:
    """What is being sent, for middleware that goes around it."""

    task: Task[..., Any]
    queue: str
    count: int  # messages
    message: Message | None  # the only one, where there is one: its headers come after this
    deferred: bool = False  # its headers are made now; it is sent when the transaction commits


SendWrapper = Callable[[Sending], AbstractContextManager[Any]]

tell_of_dropped(lambda message, queue: announcements.dead_letter(message, queue, DROPPED)())

_header_source: HeaderSource | None = None
_send_wrapper: SendWrapper | None = None
_NOTHING = nullcontext()
_counter: Callable[[str, str], object] | None = None
_runner: Callable[[TaskHandle[Any]], object] | None = None


def set_middleware(headers: HeaderSource, sending: SendWrapper) -> None:
    """`headers` is asked for those of each message, `sending` goes around each call that sends.

    (Middleware is a layer above this one, so it comes to us.)
    """
    global _header_source, _send_wrapper
    _header_source, _send_wrapper = headers, sending


def set_counter(counter: Callable[[str, str], object] | None) -> None:
    """`counter` is told task and queue of each call that the broker accepted, or that was committed with the outbox.

    (Metrics are a layer above this one.)
    """
    global _counter
    _counter = counter


def set_runner(runner: Callable[[TaskHandle[Any]], object] | None) -> None:
    """`runner` runs each call that has been sent, in place: see testing/. (A layer above this one.)"""
    global _runner
    _runner = runner


def send(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskHandle[Any]:
    """Sends one call; raises InvalidArguments, PayloadTooLarge, KeyMissing, QueueFull, BrokerUnavailable."""
    message = _message(route, *_encode(route, args, kwargs))
    with _sending(route, message, deferred=route.outbox):
        if route.outbox:
            return _written(route, [_wrap(route, message)])[0]
        return _accepted(route, get_broker().enqueue((_wrap(route, message),), route.patience)[0])


def send_many(route: Route, calls: Iterable[Call]) -> list[TaskHandle[Any]]:
    """Sends calls, 500 a round trip, after all of them have been found correct. Raises what `send` raises."""
    if "idempotency_key" in route.more:
        raise InvalidTask(
            f"Task {route.task.name}: delay_many() with an idempotency key would send one of the calls only. "
            "Use using(idempotency_key=...).delay() for each."
        )
    encoded = [_encode(route, *_split(route, number, call)) for number, call in enumerate(calls)]
    submissions = (_wrap(route, _message(route, *call)) for call in encoded)  # made as they leave
    with _sending(route, count=len(encoded), deferred=route.outbox):
        if route.outbox:
            return _written(route, list(submissions))
        broker = get_broker()
        send = broker.enqueue_lane if route.share_key is None else broker.enqueue  # shares are lanes of their own
        return [_accepted(route, accepted) for accepted in send(submissions, route.patience)]


def send_on_commit(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskHandle[Any]:
    """Checks and encodes the call now; sends it when the surrounding transaction commits, or at once without one."""
    if route.outbox:  # which does so by itself
        return send(route, args, kwargs)
    message = _message(route, *_encode(route, args, kwargs))
    handle: TaskHandle[Any] = TaskHandle(message.id, route.task)
    with _sending(route, message, deferred=True):
        submission = _wrap(route, message)

    def send_now() -> None:
        with _sending(route, message):
            _accepted(route, get_broker().enqueue((submission,), route.patience)[0], handle)

    transaction.on_commit(send_now, using=route.database)
    return handle


def _written(route: Route, submissions: list[Submission]) -> list[TaskHandle[Any]]:
    """Leaves them to the outbox, which sends them after the transaction."""
    from django_taskq import outbox

    handles: list[TaskHandle[Any]] = [
        TaskHandle(submission.message.id, route.task, route.first_state or outbox.state_of(submission))
        for submission in submissions
    ]

    def committed() -> None:
        for handle in handles:
            _announce(route, handle)
            if _runner is not None:
                _runner(handle)

    heard = _counter is not None or task_enqueued.receivers or get_settings().is_local
    outbox.write(submissions, route.database, then=committed if heard else None)
    return handles


def send_as(
    route: Route, call: Call, id: bytes, due: int | None, submit: Callable[[Submission], Accepted | None]
) -> TaskHandle[Any] | None:
    """Sends one call as the task `id` by way of `submit`, which returns None for what it does not send.

    `due` (epoch ms) takes the place of the moment of sending. Raises what `send` and `submit` raise.
    """
    args, kwargs = call
    message = _message(route, *_encode(route, tuple(args), dict(kwargs)), id)
    with _sending(route, message):
        submission = _wrap(route, message)
        if due is not None and submission.due is None:
            submission = msgspec.structs.replace(submission, delay=None, due=due + (submission.delay or 0))
        accepted = submit(submission)
        return None if accepted is None else _accepted(route, accepted)


def _encode(route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, bytes, bytes, str]:
    encoded = route.task.codec.encode(args, kwargs)
    size, limit = len(encoded[0]) + len(encoded[1]), get_settings().max_payload_bytes
    if size > limit:
        raise PayloadTooLarge(
            f"{route.task.name}: the arguments take {size:,} bytes; TASKQ['MAX_PAYLOAD_BYTES'] allows {limit:,}. "
            "Store the data elsewhere (a file, a row) and pass its id."
        )
    gates = b"" if route.gates is None else route.gates.of_call(args, kwargs)
    return *encoded, gates, "" if route.share_key is None else route.share_key(args, kwargs)


def _message(route: Route, args: bytes, kwargs: bytes, gates: bytes, fair_key: str, id: bytes = b"") -> Message:
    message = Message(id or new_id(), route.task.name, args, kwargs, route.priority, **route.more)
    if route.task.encrypt:
        seal_call(message)
    message.gates, message.fair_key = gates, fair_key
    if route.inherits and (inherited := inherited_deadline()) is not None:
        message.deadline = min(inherited, message.deadline or inherited)
    return message


def _sending(
    route: Route, message: Message | None = None, *, count: int = 1, deferred: bool = False
) -> AbstractContextManager[Any]:
    if _send_wrapper is None or not get_settings().middleware:
        return _NOTHING
    return _send_wrapper(Sending(route.task, route.queue, count, message, deferred))


def _wrap(route: Route, message: Message) -> Submission:
    """A message with its headers, on the way to its queue."""
    if _header_source is not None and get_settings().middleware:
        message.headers = _header_source(route.task, message)
    return Submission(message, route.queue, route.delay, route.due, route.expires_in, route.deadline_in)


def _split(route: Route, number: int, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        args, kwargs = call
        if type(args) is tuple and type(kwargs) is dict:
            return args, kwargs
        if isinstance(args, list | tuple) and isinstance(kwargs, Mapping):
            return tuple(args), dict(kwargs)
    except (TypeError, ValueError):
        pass
    raise InvalidArguments(
        f"{route.task.name}: delay_many() takes pairs of arguments and keyword arguments, like ((1, 2), {{'a': 'x'}}); "
        f"number {number} is {call!r:.100}."
    )


def _accepted(route: Route, accepted: Accepted, handle: TaskHandle[Any] | None = None) -> TaskHandle[Any]:
    """The handle, of what the broker answered."""
    id, created = accepted.id, accepted.created
    state = route.first_state if created else None
    if handle is None:
        handle = TaskHandle(id, route.task, state, created)
    else:
        handle.accepted(id, state, created=created)
    if _counter is not None or task_enqueued.receivers:
        _announce(route, handle, new=created)
    if _runner is not None and created:
        _runner(handle)
    return handle


def _announce(route: Route, handle: TaskHandle[Any], *, new: bool = True) -> None:
    if _counter is not None and new:
        _counter(route.task.name, route.queue)
    # The task is sent: a receiver that fails is logged by Django and must not make the caller believe otherwise.
    task_enqueued.send_robust(sender=route.task, task_id=handle.id, queue=route.queue, handle=handle)
