"""OpenTelemetry: a span around each sending and each attempt. Needs the extra `otel`.

TASKQ = {"MIDDLEWARE": ["django_taskq.middleware.tracing.tracing", ...]} turns it on; nothing else does. Names and
attributes are those of the semantic conventions for messaging spans, version 1.44, but for the spans' names: they end
in the task, because it is the task and not its queue that a trace is searched for.
https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/messaging/messaging-spans.md

The message carries its creation context in a header: trace_header.py.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context as otel
    from opentelemetry import trace
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(f"{error}. Install django-taskq-redis[otel].") from error

import django_taskq
from django_taskq.context import TaskContext
from django_taskq.core.ids import id_to_str
from django_taskq.exceptions import Retry, TaskTimeout
from django_taskq.middleware.base import Factory, around
from django_taskq.middleware.fate import fate_of, meant_by
from django_taskq.middleware.trace_header import (
    context_of,
    creation_of,
    current_header,
    fields_of,
    header_after,
    previous_of,
)
from django_taskq.producer import Sending
from django_taskq.signals import worker_process_stopped

if TYPE_CHECKING:
    from django_taskq.task import Task

logger = logging.getLogger(__name__)

FRAMES, LONGEST_TEXT = -50, 30_000  # the innermost frames of a traceback; characters
FLUSH = 3_000  # ms that the end of a worker process may wait for the exporter
SYSTEM, GROUP = "django_taskq", "workers"

_tracer = trace.get_tracer("django_taskq", django_taskq.__version__)


# --- the producer -----------------------------------------------------------------------------------------------------


@contextmanager
def _sending(sending: Sending) -> Iterator[None]:
    """One span, however many messages. `create` and later `send` where the message waits for a commit in between."""
    message, operation = sending.message, "create" if sending.deferred else "send"
    attributes = _attributes(operation, sending.queue, sending.task)
    links, kind = [], SpanKind.PRODUCER
    if message is None:
        attributes["messaging.batch.message_count"] = sending.count
    else:
        attributes["messaging.message.id"] = id_to_str(message.id)
        created = creation_of(fields_of(message.headers))
        if created.is_valid:
            links, kind = [Link(created, {"django_taskq.link": "creation"})], SpanKind.CLIENT
    with _tracer.start_as_current_span(
        f"{operation} {sending.task.name}", kind=kind, attributes=attributes, links=links, record_exception=False,
        set_status_on_exception=False,
    ) as span:  # fmt: skip
        try:
            yield
        except BaseException as error:
            _failed(span, error)
            raise


def _headers(*_: Any) -> dict[str, str]:
    return current_header()


# --- the worker -------------------------------------------------------------------------------------------------------


@contextmanager
def _attempt(context: TaskContext) -> Iterator[None]:
    """The span of one attempt: a child of the message's creation context, linked to it and to the attempt before.

    That of a batch has many creation contexts: it is linked to each, and nobody's child.
    """
    contexts = [call.context for call in context.calls] or [context]
    parent = otel.Context() if context.calls else context_of(fields_of(context.headers))
    created = trace.get_current_span(parent).get_span_context()
    span = _tracer.start_span(
        f"process {context.name}", parent, SpanKind.CONSUMER, _attributes_of_attempt(context), _links(contexts),
        record_exception=False, set_status_on_exception=False,
    )  # fmt: skip
    if not context.calls:
        _tell_history(span, context)
    token = otel.attach(trace.set_span_in_context(span, parent))
    try:
        if not created.is_valid and not context.calls:
            context.message.headers = {**context.headers, **current_header()}  # its log lines and retries belong to it
        yield
        fate = fate_of(context, None)
        span.set_attribute("django_taskq.outcome", fate)
        if fate != "succeeded":
            _failed(span, TaskTimeout("It ignored its time limit, and had been settled without its end."))
    except BaseException as error:
        fate = fate_of(context, error)
        span.set_attribute("django_taskq.outcome", fate)
        if fate == "failed" or (fate == "retried" and not issubclass(type(error), Retry)):
            _failed(span, meant_by(context, error))
        if fate in {"retried", "put_off"} and not context.calls:
            _remember(span, context)
        raise
    finally:
        for call in context.calls:  # whichever of them ends in a retry
            _remember(span, call.context)
        otel.detach(token)
        span.end()


def _links(contexts: Sequence[TaskContext]) -> list[Link]:
    """To what each message was created by, once, and to its attempt before."""
    found: dict[tuple[int, int, str], Link] = {}
    for context in contexts:
        fields = fields_of(context.headers)
        for linked, what in ((creation_of(fields), "creation"), (previous_of(fields), "previous attempt")):
            if linked.is_valid:
                key = (linked.trace_id, linked.span_id, what)
                found.setdefault(key, Link(linked, {"django_taskq.link": what}))
    return list(found.values())


def _remember(span: Any, context: TaskContext) -> None:
    """The next attempt of this message links to this one."""
    context.message.headers = {**context.headers, **header_after(fields_of(context.headers), span)}


def _attributes_of_attempt(context: TaskContext) -> dict[str, str | int]:
    attributes = {
        **_attributes("process", context.queue, context.task),
        "messaging.consumer.group.name": GROUP,
        "messaging.client.id": context.worker,
        "code.function.name": context.task.module_path,
    }
    if context.calls:
        return {**attributes, "messaging.batch.message_count": len(context.calls)}
    return {
        **attributes,
        "messaging.message.id": context.id,
        "django_taskq.attempt": context.attempt,
        "django_taskq.run": context.run,
    }


def _tell_history(span: Any, context: TaskContext) -> None:
    """Earlier attempts as events, when they ended: also those that a worker's death left without a span."""
    if not span.is_recording():
        return
    for past in context.message.history:
        attributes = {
            "django_taskq.attempt": past.number, "django_taskq.outcome": past.how, "error.type": past.error_class,
            "messaging.client.id": past.worker,
        }  # fmt: skip
        known = {name: value for name, value in attributes.items() if value != ""}
        try:
            span.add_event("django_taskq.attempt", known, timestamp=int(past.ended * 1e9))
        except (OverflowError, ValueError):  # a time that is none: the message may be anybody's
            continue


def _flush(**_: Any) -> None:
    """The process ends without running exit handlers: what the exporter still holds is sent now."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(FLUSH)


worker_process_stopped.connect(_flush, dispatch_uid="django_taskq.tracing")


# --- both -------------------------------------------------------------------------------------------------------------


def _attributes(operation: str, queue: str, task: Task[..., Any]) -> dict[str, str | int]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "django_taskq.task": task.name,
    }


def _failed(span: Any, error: BaseException) -> None:
    span.set_status(Status(StatusCode.ERROR))
    try:
        kind, message = type(error), str(error)
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        stack = "".join(traceback.format_exception(kind, error, error.__traceback__, limit=FRAMES))
    except BaseException as fault:  # noqa: BLE001 - a foreign exception may raise anything when it is looked at
        logger.debug("an error could not be described: %s", type(fault))
        return
    span.set_attribute("error.type", _clean(name))
    # As record_exception() would, but for what exporters cannot encode, and for tracebacks without an end.
    described = {"exception.type": name, "exception.message": message, "exception.stacktrace": stack}
    span.add_event("exception", {key: _clean(value) for key, value in described.items()})
    span.set_status(Status(StatusCode.ERROR, _clean(message)[:1000]))


def _clean(text: str) -> str:
    return text[-LONGEST_TEXT:].encode("utf-8", "backslashreplace").decode()


tracing: Factory = around(_attempt)
tracing.headers = _headers  # type: ignore[attr-defined]
tracing.sending = _sending  # type: ignore[attr-defined]
