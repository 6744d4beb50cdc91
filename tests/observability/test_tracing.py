"""Spans of real sendings and attempts, in the SDK's in-memory exporter; through a worker, in its console exporter."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from django_taskq.broker import Broker, get_broker
from django_taskq.core.ids import id_from_str
from django_taskq.core.message import Attempt
from django_taskq.exceptions import BrokerUnavailable, TaskCancelled, TaskTimeout
from django_taskq.middleware import load_middleware
from tests.observability import tasks
from tests.observability.conftest import Place, Use, batch_of, context_of, run
from tests.servers import ROOT, RedisServer
from tests.worker import tasks as worker_tasks

if TYPE_CHECKING:
    from tests.conftest import StartWorker

TRACING = "tracing.tracing"
PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
PREVIOUS = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


@cache
def memory() -> InMemorySpanExporter:
    """OpenTelemetry has one provider a process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(use: Use) -> InMemorySpanExporter:
    use(TRACING)
    memory().clear()
    return memory()


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    [span] = spans.get_finished_spans()
    return span


def header_of(id: str) -> dict[str, str]:
    message = get_broker().find([id_from_str(id)])[0].message
    assert message is not None
    return json.loads(message.headers["trace"])


def links(span: ReadableSpan) -> dict[str, str]:
    return {str(link.attributes["django_taskq.link"]): f"{link.context.span_id:016x}" for link in span.links}


def traceparent(span: ReadableSpan) -> str:
    assert span.context
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


# --- the producer -----------------------------------------------------------------------------------------------------


def test_sending_is_a_span_whose_context_travels_in_the_message(spans: InMemorySpanExporter) -> None:
    with trace.get_tracer("web").start_as_current_span("GET /"):
        handle = tasks.works.delay(1)
    span, view = spans.get_finished_spans()
    assert (span.name, span.kind) == (f"send {tasks.works.name}", SpanKind.PRODUCER)
    assert span.parent == view.context
    assert dict(span.attributes or {}) == {
        "messaging.system": "django_taskq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "messaging.message.id": handle.id,
        "django_taskq.task": tasks.works.name,
    }
    assert header_of(handle.id) == {"traceparent": traceparent(span)}


def test_many_messages_are_one_span(spans: InMemorySpanExporter) -> None:
    handles = tasks.works.delay_many([((number,), {}) for number in range(600)])
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 600
    assert "messaging.message.id" not in span.attributes
    assert header_of(handles[0].id) == header_of(handles[-1].id) == {"traceparent": traceparent(span)}


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_the_commit_is_created_first_and_sent_then(spans: InMemorySpanExporter) -> None:
    with transaction.atomic():
        handle = tasks.works.delay_on_commit(1)
        create = only(spans)
    _, send = spans.get_finished_spans()
    assert (create.name, create.kind) == (f"create {tasks.works.name}", SpanKind.PRODUCER)
    assert (send.name, send.kind) == (f"send {tasks.works.name}", SpanKind.CLIENT)
    assert create.context is not None
    assert links(send) == {"creation": f"{create.context.span_id:016x}"}
    assert header_of(handle.id) == {"traceparent": traceparent(create)}


def test_a_sending_that_fails_is_a_failed_span(spans: InMemorySpanExporter, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(BrokerUnavailable):
                tasks.works.delay(1)
        finally:
            client.config_set("maxmemory", "0")
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert str(span.attributes["error.type"]).startswith("django_taskq.exceptions.Broker")


# --- the worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [tasks.works, tasks.works_async])
def test_an_attempt_is_a_span_below_the_one_that_sent_it(spans: InMemorySpanExporter, task: Any) -> None:
    attempt = context_of(task, headers={"trace": json.dumps(PARENT)}, run=2)
    assert run(attempt, 7) == 7
    span = only(spans)
    assert (span.name, span.kind) == (f"process {task.name}", SpanKind.CONSUMER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.parent.trace_state["vendor"] == "1"
    assert links(span) == {"creation": "b7ad6b7169203331"}
    assert dict(span.attributes or {}) == {
        "messaging.system": "django_taskq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": attempt.id,
        "messaging.consumer.group.name": "workers",
        "messaging.client.id": "host-1-test",
        "code.function.name": f"tests.observability.tasks.{task.func.__name__}",
        "django_taskq.task": task.name,
        "django_taskq.attempt": 1,
        "django_taskq.run": 2,
        "django_taskq.outcome": "succeeded",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_what_a_task_sends_belongs_to_its_trace(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    seen: list[object] = []

    def sends(value: Any) -> None:
        seen.append(baggage.get_baggage("tenant"))
        sent.append(tasks.works.delay(value).id)

    attempt = context_of(tasks.works, headers={"trace": json.dumps({**PARENT, "baggage": "tenant=acme"})})
    monkeypatch.setattr(tasks.works, "func", sends)
    run(attempt, 1)
    send, process = spans.get_finished_spans()
    assert send.parent == process.context
    assert header_of(sent[0])["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c")
    assert seen == ["acme"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_failed_attempt_records_its_error_and_the_next_links_to_it(spans: InMemorySpanExporter) -> None:
    first = context_of(tasks.fails, headers={"trace": json.dumps(PARENT)})
    run(first)
    failed = only(spans)
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "oops")
    assert failed.attributes is not None
    assert (failed.attributes["error.type"], failed.attributes["django_taskq.outcome"]) == ("ValueError", "retried")
    [exception] = failed.events
    assert exception.name == "exception"
    assert "about to" not in str(exception.attributes)
    assert "ValueError: oops" in str((exception.attributes or {})["exception.stacktrace"])
    again = context_of(tasks.fails, headers=first.headers, attempt=1)
    run(again)
    _, second = spans.get_finished_spans()
    assert failed.context is not None
    assert links(second) == {"creation": "b7ad6b7169203331", "previous attempt": f"{failed.context.span_id:016x}"}
    assert second.attributes is not None
    assert (second.attributes["django_taskq.outcome"], second.attributes["django_taskq.attempt"]) == ("failed", 2)


def test_earlier_attempts_are_events_also_those_that_have_no_span(spans: InMemorySpanExporter) -> None:
    history = [
        Attempt(1, 1000.0, 1001.5, "host-2", "worker_lost"),
        Attempt(1, 1002.0, 1003.0, "host-3", "retry", "ValueError", "x"),
        Attempt(1, 1e300, 1e300, "host-4", "retry"),
    ]
    run(context_of(tasks.works, headers={"trace": json.dumps({**PARENT, "previous": PREVIOUS})}, history=history), 1)
    span = only(spans)
    lost, failed = span.events
    assert (lost.name, lost.timestamp) == ("django_taskq.attempt", 1_001_500_000_000)
    assert dict(lost.attributes or {}) == {
        "django_taskq.attempt": 1, "django_taskq.outcome": "worker_lost", "messaging.client.id": "host-2"
    }  # fmt: skip
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert links(span)["previous attempt"] == "00f067aa0ba902b7"


@pytest.mark.parametrize(("task", "outcome"), [(tasks.asks_again, "retried"), (tasks.discards, "discarded")])
def test_retry_and_discard_are_no_errors(spans: InMemorySpanExporter, task: Any, outcome: str) -> None:
    run(context_of(task))
    span = only(spans)
    assert (span.attributes or {})["django_taskq.outcome"] == outcome
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


def test_a_retry_that_is_asked_for_in_vain_is_an_error(spans: InMemorySpanExporter) -> None:
    run(context_of(tasks.asks_again, attempt=1))
    assert only(spans).status.status_code is StatusCode.ERROR


def test_a_task_that_came_without_a_trace_begins_one(spans: InMemorySpanExporter) -> None:
    first = context_of(tasks.fails)
    run(first)
    span = only(spans)
    assert span.parent is None
    assert json.loads(first.headers["trace"]) == {"traceparent": traceparent(span), "previous": traceparent(span)}


@pytest.mark.parametrize(
    "header",
    [
        "", "{", "[1]", '{"traceparent": 7}', '{"traceparent": "00-0-0-01"}', '"x"', "null", "{" * 5000, "\x00",
        json.dumps({"traceparent": "00-" + "f" * 99_999}), json.dumps({"previous": "x", "baggage": "a=b;;=,,"}),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_passed_over(spans: InMemorySpanExporter, header: str) -> None:
    assert run(context_of(tasks.works, headers={"trace": header}), 1) == 1
    assert (only(spans).parent, only(spans).links) == (None, ())


def test_a_batch_is_one_span_linked_to_what_sent_its_calls(spans: InMemorySpanExporter) -> None:
    other = {"traceparent": "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01", "previous": PREVIOUS}
    headers = [PARENT, PARENT, other, {}]
    contexts = [context_of(tasks.takes_many, headers={"trace": json.dumps(each)}) for each in headers]
    batch = batch_of(tasks.takes_many, *contexts)
    run(batch, list(batch.calls))
    span = only(spans)
    assert span.parent is None
    linked = [f"{link.context.span_id:016x}" for link in span.links]
    assert linked == ["b7ad6b7169203331", "c7ad6b7169203331", "00f067aa0ba902b7"]
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 4
    assert "messaging.message.id" not in span.attributes
    assert "django_taskq.attempt" not in span.attributes
    assert {json.loads(each.headers["trace"])["previous"] for each in contexts} == {traceparent(span)}
    assert json.loads(contexts[0].headers["trace"])["traceparent"] == PARENT["traceparent"]


class Abandoned(Place):
    abandoned = True


def test_an_attempt_that_was_settled_without_its_end_is_no_success(spans: InMemorySpanExporter) -> None:
    context = context_of(tasks.works, attempt=9)
    context.place = Abandoned()
    assert run(context, 1) == 1
    span = only(spans)
    assert span.attributes is not None
    assert (span.attributes["django_taskq.outcome"], span.status.status_code) == ("failed", StatusCode.ERROR)
    assert span.attributes["error.type"] == "django_taskq.exceptions.TaskTimeout"


class Interrupted(Place):
    interruption = TaskCancelled


def test_a_coroutine_that_was_cancelled_is_not_called_failed(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits(value: Any = None) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(tasks.works_async, "func", waits)
    context = context_of(tasks.works_async)
    context.place = Interrupted()
    run(context)
    span = only(spans)
    assert (span.attributes or {})["django_taskq.outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET
    monkeypatch.setattr(Interrupted, "interruption", TaskTimeout)
    context = context_of(tasks.works_async, attempt=9)
    context.place = Interrupted()
    run(context)
    _, late = spans.get_finished_spans()
    assert (late.attributes or {})["error.type"] == "django_taskq.exceptions.TaskTimeout"


ODD = (
    "recursion", "circle", "huge", "exit", "interrupt", "generator", "memory", "surrogates", "nul", "timeout",
    "cancelled error", "group", "stop", "unpicklable", "discard", "discard int",
)  # fmt: skip


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_error_without_a_text_is_still_the_tasks_own(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speechless() -> None:
        raise Unspeakable

    monkeypatch.setattr(tasks.works, "func", speechless)
    assert isinstance(run(context_of(tasks.works)), Unspeakable)
    assert only(spans).status.status_code is StatusCode.ERROR


def test_a_context_that_a_thread_was_left_with_is_not_the_next_tasks_parent(spans: InMemorySpanExporter) -> None:
    leaked = trace.set_span_in_context(trace.get_tracer("web").start_span("left behind"))
    token = context.attach(leaked)
    try:
        run(context_of(tasks.works))
    finally:
        context.detach(token)
    assert only(spans).parent is None


def raised_by(kind: str) -> BaseException:
    try:
        worker_tasks._raise(kind)
    except BaseException as error:
        return error
    raise AssertionError(kind)


@pytest.mark.parametrize("middleware", [TRACING, "context_vars.context_vars"])
@pytest.mark.parametrize("kind", [*worker_tasks.HOSTILE, *ODD])
def test_whatever_a_task_raises_stays_what_it_is(
    spans: InMemorySpanExporter, use: Use, monkeypatch: pytest.MonkeyPatch, middleware: str, kind: str
) -> None:
    error = raised_by(kind)

    def raises(value: Any = None) -> None:
        raise error

    monkeypatch.setattr(tasks.works, "func", raises)
    use(middleware)
    assert run(context_of(tasks.works)) is error
    for span in spans.get_finished_spans():
        assert len(span.to_json().encode()) < 200_000


# --- on and off -------------------------------------------------------------------------------------------------------


def test_without_the_middleware_nothing_is_imported_and_nothing_is_sent(broker: Broker) -> None:
    missing = "import sys; sys.modules |= dict.fromkeys(['opentelemetry', 'sentry_sdk', 'pythonjsonlogger'])"
    code = f"{missing}; import django; django.setup(); import django_taskq.worker.supervisor; print(*sys.modules)"
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": ""}
    run = [sys.executable, "-c", code]
    modules = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT, env=env).stdout.split()
    concerns = ("tracing", "sentry", "language", "timezone", "request_id", "context_vars")
    assert not {f"django_taskq.middleware.{name}" for name in concerns} & {*modules}
    message = broker.find([id_from_str(tasks.works.delay(1).id)])[0].message
    assert message is not None
    assert message.headers == {}


@pytest.mark.parametrize(("module", "package"), [("tracing", "opentelemetry"), ("sentry", "sentry_sdk")])
def test_a_package_that_is_missing_is_named(
    use: Use, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"django_taskq.middleware.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    use(f"{module}.{module}")
    with pytest.raises(ImproperlyConfigured, match=rf"middleware\.{module}\.{module} cannot be imported: .*Install"):
        load_middleware()


@pytest.mark.django_db(transaction=True)
def test_through_a_worker(worker: StartWorker, spans: InMemorySpanExporter, tmp_path: Path) -> None:
    """Retries link to each other across two task processes' lives, and the end of a process flushes its exporter."""
    path = tmp_path / "spans"
    process = worker("--threads", "2", tasks=["tests.observability.tasks"], env={"TASKQ_TEST_SPANS": str(path)})
    handle, coroutine = tasks.fails_once.delay(), tasks.works_async.delay(1)
    assert (handle.get(timeout=15), coroutine.get(timeout=15)) == (2, 1)
    assert path.read_text() == ""
    assert process.terminate() == 0
    found = [json.loads(line) for line in path.read_text().splitlines()]
    first, second = (span for span in found if span["name"] == f"process {tasks.fails_once.name}")
    [other] = (span for span in found if span["name"] == f"process {tasks.works_async.name}")
    send, *_ = spans.get_finished_spans()
    assert send.context is not None
    for span in (first, second):
        assert int(span["context"]["trace_id"], 16) == send.context.trace_id
        assert int(span["parent_id"], 16) == send.context.span_id
    assert [link["context"]["span_id"] for link in second["links"]][1] == first["context"]["span_id"]
    assert [event["name"] for event in second["events"]] == ["django_taskq.attempt"]
    assert (first["status"]["status_code"], second["status"]["status_code"]) == ("ERROR", "UNSET")
    assert other["context"]["trace_id"] != first["context"]["trace_id"]
    assert re.fullmatch(r"[\w.-]+", second["attributes"]["messaging.client.id"])


def test_every_attribute_and_event_has_its_row(spans: InMemorySpanExporter, redis_server: RedisServer) -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    tasks.works.delay_many([((1,), {}), ((2,), {})])
    history = [Attempt(1, 1002.0, 1003.0, "host-3", "retry", "ValueError", "x")]
    headers = {"trace": json.dumps({**PARENT, "previous": PREVIOUS})}
    run(context_of(tasks.fails, headers=headers, attempt=1, history=history))
    names = set()
    for span in spans.get_finished_spans():
        for item in (span, *span.events, *span.links):
            names |= {name for name in (item.attributes or {}) if not name.startswith("exception.")}
        names |= {event.name for event in span.events}
    assert {name for name in names if f"`{name}`" not in page} == set()
