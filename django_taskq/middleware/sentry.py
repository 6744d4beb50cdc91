"""Sentry: errors of tasks, with the task, and its transactions. Needs sentry-sdk (the extra `sentry`).

TASKQ = {"MIDDLEWARE": ["django_taskq.middleware.sentry.sentry", ...]} reports what fails for good,
"django_taskq.middleware.sentry.sentry_every_attempt" each failed attempt. What is reported, and how it is named,
follows Sentry's own integrations for Celery, RQ, arq and Huey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec
from django.utils.decorators import sync_and_async_middleware

try:
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger
except ImportError as error:
    raise ImportError(f"{error}. Install django-taskq-redis[sentry].") from error

from django_taskq.context import TaskContext
from django_taskq.core.ids import id_to_str
from django_taskq.exceptions import Retry
from django_taskq.middleware.base import Call, Factory, around
from django_taskq.middleware.fate import Fate, fate_of, meant_by
from django_taskq.middleware.headers import header_of
from django_taskq.middleware.sentry_events import dead_letter, describe, killed, report, said
from django_taskq.producer import Sending
from django_taskq.redaction import redact_json
from django_taskq.signals import task_failed, task_retried, worker_process_stopped

HEADER = "sentry"
LONGEST_HEADER = 16_384  # characters
ORIGIN = "auto.queue.taskq"
SYSTEM = "django_taskq"
FLUSH = 3.0  # seconds that the end of a worker process may wait for the transport
FILTERED = "[Filtered]"
_STATUS = {"succeeded": "ok", "retried": "internal_error", "failed": "internal_error"}  # of others: aborted

_decode = msgspec.json.Decoder(dict[str, str]).decode

# The line in the log about a failed attempt would become a second event.
ignore_logger("django_taskq.worker.tasks")


# --- the producer -----------------------------------------------------------------------------------------------------


@contextmanager
def _sending(sending: Sending) -> Iterator[None]:
    if sending.deferred or not sentry_sdk.get_client().is_active():
        yield
        return
    with sentry_sdk.start_span(op="queue.publish", name=sending.task.name, origin=ORIGIN) as span:
        span.set_data("messaging.system", SYSTEM)
        span.set_data("messaging.destination.name", sending.queue)
        if sending.message is None:
            span.set_data("messaging.batch.message_count", sending.count)
        else:
            span.set_data("messaging.message.id", id_to_str(sending.message.id))
        yield


def _headers(*_: Any) -> dict[str, str]:
    if not sentry_sdk.get_client().is_active():
        return {}
    fields = {"sentry-trace": sentry_sdk.get_traceparent(), "baggage": sentry_sdk.get_baggage()}
    known = {name: value for name, value in fields.items() if value}
    return {HEADER: msgspec.json.encode(known).decode()} if known else {}


# --- the worker -------------------------------------------------------------------------------------------------------


def _reporting(*, every_attempt: bool) -> Callable[[TaskContext], AbstractContextManager[None]]:
    @contextmanager
    def attempt(context: TaskContext) -> Iterator[None]:
        if not sentry_sdk.get_client().is_active():
            yield
            return
        error: BaseException | None = None
        with sentry_sdk.isolation_scope() as scope, _transaction(context, scope) as spans:
            try:
                yield
            except BaseException as raised:  # noqa: BLE001 - raised again below, past spans that would call it an error
                error = raised
            fate = fate_of(context, error)
            for span in spans:
                span.set_status(_STATUS.get(fate, "aborted"))
            if error is not None and not context.calls and _is_reported(error, fate, every_attempt=every_attempt):
                said(error)
                report(meant_by(context, error), context.name)
        if error is not None:
            raise error

    return attempt


@contextmanager
def _transaction(context: TaskContext, scope: Any) -> Iterator[tuple[Any, Any]]:
    """The transaction and the span of one attempt, in a scope of its own that says which it is."""
    job = _job(context)
    scope.clear_breadcrumbs()
    if context.calls:
        describe(scope, context.name, context.queue)
    else:
        describe(scope, context.name, context.queue, task_id=context.id, attempt=context.attempt)
    scope.set_context("taskq", job)
    transaction = sentry_sdk.continue_trace(
        _fields(header_of(context, HEADER)), op="queue.task.taskq", name=context.name, source="task", origin=ORIGIN
    )
    with (
        sentry_sdk.start_transaction(transaction, custom_sampling_context={"taskq_job": job}) as outer,
        sentry_sdk.start_span(op="queue.process", name=context.name, origin=ORIGIN) as inner,
    ):
        inner.set_data("messaging.system", SYSTEM)
        inner.set_data("messaging.destination.name", context.queue)
        if context.calls:
            inner.set_data("messaging.batch.message_count", len(context.calls))
        else:
            inner.set_data("messaging.message.id", context.id)
            inner.set_data("messaging.message.retry.count", context.attempt - 1)
        yield outer, inner


def _job(context: TaskContext) -> dict[str, Any]:
    message, shown = context.message, _may_show_arguments()
    return {
        "task": context.name,
        "id": context.id,
        "queue": context.queue,
        "attempt": context.attempt,
        "retries_left": context.retries_left,
        "run": context.run,
        "worker": context.worker,
        "args": _text(message.args) if shown else FILTERED,
        "kwargs": _text(message.kwargs) if shown else FILTERED,
    }


def _may_show_arguments() -> bool:
    """`data_collection` says so; in older versions of the SDK `send_default_pii`."""
    options = sentry_sdk.get_client().options
    collection = options.get("data_collection") or {}
    return bool(collection.get("queues", options.get("send_default_pii")))


def _text(raw: bytes) -> str:
    return redact_json(raw).decode("utf-8", "backslashreplace")


def _is_reported(error: BaseException, fate: Fate, *, every_attempt: bool) -> bool:
    """A task that asks to be tried again, that ends itself or that was cancelled has no error."""
    return fate == "failed" or (every_attempt and fate == "retried" and not issubclass(type(error), Retry))


def _flush(**_: Any) -> None:
    """The process ends without running exit handlers."""
    sentry_sdk.flush(timeout=FLUSH)


# --- both -------------------------------------------------------------------------------------------------------------


def _fields(text: str) -> dict[str, str]:
    """What the header carries. Anybody may have written it: what makes no sense is passed over."""
    try:
        return _decode(text) if text and len(text) <= LONGEST_HEADER else {}
    except (msgspec.MsgspecError, ValueError):
        return {}


def _factory(*, every_attempt: bool) -> Factory:
    reporting = around(_reporting(every_attempt=every_attempt))

    @sync_and_async_middleware
    def factory(call: Call) -> Call:
        # Called in task processes only: elsewhere nobody must report what others do.
        task_failed.connect(dead_letter, dispatch_uid="django_taskq.sentry")
        worker_process_stopped.connect(_flush, dispatch_uid="django_taskq.sentry")
        return reporting(call)

    def in_supervisor() -> None:
        task_failed.connect(dead_letter, dispatch_uid="django_taskq.sentry")
        if every_attempt:
            task_retried.connect(killed, dispatch_uid="django_taskq.sentry")

    factory.headers, factory.sending = _headers, _sending  # type: ignore[attr-defined]
    factory.in_supervisor = in_supervisor  # type: ignore[attr-defined]
    return factory


sentry = _factory(every_attempt=False)
sentry_every_attempt = _factory(every_attempt=True)
