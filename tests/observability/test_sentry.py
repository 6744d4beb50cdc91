"""Events and transactions as Sentry gets them: in a transport of the test's own, and at a server of the test's own."""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from django_taskq import BreakerOpen, Discard, TaskFailed
from django_taskq.broker import Broker
from django_taskq.core.ids import id_from_str
from django_taskq.core.outcome import REASONS
from django_taskq.exceptions import HardTimeout, InvalidArguments, TaskCancelled, TaskTimeout
from django_taskq.middleware import enter_supervisor
from django_taskq.middleware.sentry import ORIGIN
from django_taskq.signals import task_failed, task_retried, worker_process_stopped
from tests.observability import tasks
from tests.observability.conftest import Use, batch_of, context_of, run
from tests.observability.test_tracing import ODD, raised_by
from tests.sampleapp.tasks import sleep
from tests.servers import ROOT, wait_for
from tests.worker import tasks as worker_tasks
from tests.worker.inside import delivery_of, new_executor

if TYPE_CHECKING:
    from tests.conftest import StartWorker

SENTRY, EVERY = "sentry.sentry", "sentry.sentry_every_attempt"


class Kept(Transport):
    """Keeps what would be sent."""

    envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)


Items = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def items(use: Use, broker: Broker) -> Iterator[Items]:
    """What was sent of a kind: event, transaction."""

    def of_kind(kind: str) -> list[dict[str, Any]]:
        found = [item for envelope in Kept.envelopes for item in envelope.items if item.type == kind]
        return [item.payload.json or {} for item in found]

    use(SENTRY)
    start()
    yield of_kind
    stop()


def start(**options: Any) -> None:
    Kept.envelopes = []
    chosen = {"traces_sample_rate": 1.0, "default_integrations": False, "shutdown_timeout": 0, **options}
    sentry_sdk.init("http://key@127.0.0.1:1/1", transport=Kept, **chosen)


def stop() -> None:
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    for signal in (task_failed, task_retried, worker_process_stopped):
        signal.disconnect(dispatch_uid="django_taskq.sentry")


def test_a_final_failure_is_an_event_that_says_which_task_it_was(items: Items) -> None:
    context = context_of(tasks.fails, "x", attempt=1, run=2)
    assert isinstance(run(context, "x"), ValueError)
    [event] = items("event")
    assert event["tags"] == {
        "taskq_task": tasks.fails.name, "taskq_task_id": context.id, "taskq_queue": "default", "taskq_attempt": "2"
    }  # fmt: skip
    assert event["contexts"]["taskq"] == {
        "task": tasks.fails.name, "id": context.id, "queue": "default", "attempt": 2, "retries_left": 0, "run": 2,
        "worker": "host-1-test", "args": "[Filtered]", "kwargs": "[Filtered]",
    }  # fmt: skip
    assert event["transaction"] == tasks.fails.name
    [exception] = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "x")
    assert exception["mechanism"] == {"type": "taskq", "handled": False}
    assert exception["stacktrace"]["frames"][-1]["function"] == "fails"
    [transaction] = items("transaction")
    assert event["contexts"]["trace"]["trace_id"] == transaction["contexts"]["trace"]["trace_id"]


@pytest.mark.parametrize("task", [tasks.works, tasks.works_async])
def test_an_attempt_is_a_transaction(items: Items, task: Any) -> None:
    context = context_of(task, attempt=1)
    run(context)
    [transaction] = items("transaction")
    trace = transaction["contexts"]["trace"]
    assert (transaction["transaction"], transaction["transaction_info"]) == (task.name, {"source": "task"})
    assert (trace["op"], trace["status"], trace["origin"]) == ("queue.task.taskq", "ok", ORIGIN)
    [span] = transaction["spans"]
    assert (span["op"], span["description"]) == ("queue.process", task.name)
    data = {name: value for name, value in span["data"].items() if name.startswith("messaging.")}
    assert data == {
        "messaging.system": "django_taskq",
        "messaging.destination.name": "default",
        "messaging.message.id": context.id,
        "messaging.message.retry.count": 1,
    }
    assert items("event") == []


def test_what_follows_is_not_reported_but_by_the_one_that_reports_every_attempt(items: Items, use: Use) -> None:
    run(context_of(tasks.fails))
    assert items("event") == []
    assert items("transaction")[0]["contexts"]["trace"]["status"] == "internal_error"
    use(EVERY)
    run(context_of(tasks.fails))
    assert len(items("event")) == 1


@pytest.mark.parametrize("middleware", [SENTRY, EVERY])
@pytest.mark.parametrize("error", [Discard("no"), TaskCancelled()])
def test_what_ends_a_task_on_purpose_is_not_reported(
    items: Items, use: Use, monkeypatch: pytest.MonkeyPatch, middleware: str, error: BaseException
) -> None:
    def ends(value: Any = None) -> None:
        raise error

    use(middleware)
    monkeypatch.setattr(tasks.works, "func", ends)
    assert run(context_of(tasks.works)) is error
    run(context_of(tasks.asks_again))
    assert items("event") == []
    assert {sent["contexts"]["trace"]["status"] for sent in items("transaction")} <= {"aborted", "internal_error"}


def test_a_retry_that_is_asked_for_in_vain_is_reported(items: Items) -> None:
    run(context_of(tasks.asks_again, attempt=1))
    assert len(items("event")) == 1


def test_what_an_open_breaker_puts_off_is_not_reported(items: Items, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    def meets_it(value: Any = None) -> None:
        raise BreakerOpen(breaker="crm", seconds=5.0)

    use(EVERY)
    monkeypatch.setattr(tasks.works, "func", meets_it)
    run(context_of(tasks.works, attempt=9))
    assert items("event") == []


def test_an_attempt_whose_next_one_would_miss_the_deadline_is_reported_once(items: Items, use: Use) -> None:
    error = run(context_of(tasks.fails))  # which sees that another attempt follows
    about = {"sender": tasks.fails, "task_id": "x", "queue": "default", "attempt": 1, "reason": "deadline"}
    task_failed.send(error=error, **about)
    assert [event["tags"]["taskq_reason"] for event in items("event")] == ["deadline"]
    use(EVERY)
    task_failed.send(error=run(context_of(tasks.fails)), **about)
    assert len(items("event")) == 2
    task_failed.send(error=None, **about)  # it was over before the next attempt
    assert items("event")[-1]["message"] == f"{tasks.fails.name} is a dead letter: deadline"


def test_time_outs_of_a_task_are_one_kind_of_failure(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    def times_out(value: Any = None) -> None:
        raise TaskTimeout

    monkeypatch.setattr(tasks.works, "func", times_out)
    run(context_of(tasks.works, attempt=9))
    assert items("event")[0]["fingerprint"] == ["taskq", "TaskTimeout", tasks.works.name]


def test_arguments_are_shown_where_the_project_allows_it_and_secrets_never(items: Items) -> None:
    start(data_collection={"queues": True})
    run(context_of(tasks.fails, {"password": "hunter2", "to": "ada"}, attempt=1), "x")
    context = items("event")[0]["contexts"]["taskq"]
    assert json.loads(context["args"]) == [{"password": "[redacted]", "to": "ada"}]


def test_each_attempt_has_a_scope_of_its_own(items: Items) -> None:
    with sentry_sdk.isolation_scope():
        sentry_sdk.add_breadcrumb(message="of the thread")
        sentry_sdk.set_tag("left", "behind")
        run(context_of(tasks.fails, attempt=1))
        sentry_sdk.capture_message("afterwards")
    failed, afterwards = items("event")
    assert "of the thread" not in json.dumps(failed.get("breadcrumbs"))
    assert "taskq_task" not in afterwards.get("tags", {})


def test_the_trace_goes_from_the_request_to_the_task(items: Items, broker: Broker) -> None:
    with sentry_sdk.start_transaction(name="GET /", op="http.server") as web:
        one = tasks.works.delay(1)
        tasks.works.delay_many([((1,), {}), ((2,), {})])
    message = broker.find([id_from_str(one.id)])[0].message
    assert message is not None
    run(context_of(tasks.works, headers=message.headers))
    sent, ran = items("transaction")
    single, many = sent["spans"]
    assert {span["op"] for span in sent["spans"]} == {"queue.publish"}
    assert single["data"]["messaging.message.id"] == one.id
    assert many["data"]["messaging.batch.message_count"] == 2
    assert ran["contexts"]["trace"]["trace_id"] == web.trace_id
    assert ran["contexts"]["trace"]["parent_span_id"] == single["span_id"]


@pytest.mark.parametrize(
    "header", ["{", "[1]", '{"sentry-trace": 7}', '{"sentry-trace": "x", "baggage": ";;="}', "x" * 20_000]
)
def test_a_header_that_makes_no_sense_is_passed_over(items: Items, header: str) -> None:
    assert run(context_of(tasks.works, headers={"sentry": header}), 1) == 1
    assert len(items("transaction")) == 1


def test_dead_letters_that_never_ran_are_reported(items: Items) -> None:
    run(context_of(tasks.works))  # the factory of the middleware connects it, as in a worker
    told = {"task_id": "0", "queue": "mail", "attempt": 1, "duration": 0.0}
    task_failed.send_robust("shop.gone", error=None, reason="unknown_task", **told)
    task_failed.send_robust(tasks.works, error=InvalidArguments("no"), reason="invalid_arguments", **told)
    task_failed.send_robust(tasks.fails, error=ValueError(), reason="failed", **told)  # that, its attempt has reported
    unknown, invalid = items("event")
    assert unknown["message"] == "shop.gone is a dead letter: unknown_task"
    assert (unknown["tags"]["taskq_reason"], unknown["tags"]["taskq_queue"]) == ("unknown_task", "mail")
    assert invalid["exception"]["values"][0]["type"] == "InvalidArguments"


def test_no_reason_of_a_dead_letter_goes_unreported(items: Items) -> None:
    run(context_of(tasks.works))
    for reason in REASONS:
        told = {"task_id": "0", "queue": "mail", "attempt": 1, "duration": 0.0, "error": None}
        task_failed.send_robust("shop.gone", reason=reason, **told)
    of_attempts = {"failed", "timeout"}  # the middleware reports what an attempt raised
    assert {event["tags"]["taskq_reason"] for event in items("event")} == {*REASONS} - of_attempts


def test_a_killed_attempt_that_is_tried_again_is_reported_by_the_one_that_reports_every_attempt(
    items: Items, use: Use
) -> None:
    told = {"task_id": "7", "queue": "mail", "attempt": 1, "duration": 0.0, "delay": 1.0}
    for middleware, expected in ((SENTRY, 0), (EVERY, 1)):
        use(middleware)
        enter_supervisor()
        task_retried.send_robust(tasks.works, error=HardTimeout(), **told)
        task_retried.send_robust(tasks.works, error=ValueError(), **told)  # that, its attempt has reported
        assert len(items("event")) == expected
    [event] = items("event")
    assert (event["tags"]["taskq_task_id"], event["tags"]["taskq_reason"]) == ("7", "hard_timeout")


@pytest.mark.parametrize("kind", [*worker_tasks.HOSTILE, *ODD])
def test_whatever_a_task_raises_stays_what_it_is(items: Items, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    error = raised_by(kind)

    def raises(value: Any = None) -> None:
        raise error

    monkeypatch.setattr(tasks.works, "func", raises)
    assert run(context_of(tasks.works, attempt=9)) is error
    assert len(items("event")) == (not kind.startswith("discard"))


def test_the_workers_line_about_a_failure_is_no_second_event(items: Items) -> None:
    """With Sentry's logging integration, which is on by default and makes events of errors in the log."""
    start(integrations=[LoggingIntegration()])
    executor = new_executor()
    work: Any = executor.prepare(delivery_of(tasks.fails, "x", attempt=1))
    settlement: Any = executor.failed(work, run(work.context, "x"))
    settlement.then()
    logging.getLogger("django_taskq.worker").error("something else")
    assert [event.get("logger", "") for event in items("event")] == ["", "django_taskq.worker"]


def test_every_tag_and_key_has_its_row(items: Items) -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    run(context_of(tasks.fails, attempt=1))
    [event], [transaction] = items("event"), items("transaction")
    names = {*event["tags"], *event["contexts"]["taskq"], transaction["contexts"]["trace"]["op"]}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_each_error_of_a_batch_is_reported_once(items: Items) -> None:
    contexts = [context_of(tasks.takes_many, attempt=1) for _ in range(3)]
    batch = batch_of(tasks.takes_many, *contexts)
    run(batch, list(batch.calls))
    common, own = ValueError("common"), ValueError("own")
    for context, error in zip(contexts, (common, common, own), strict=True):
        told = {"task_id": context.id, "queue": "default", "attempt": 2, "duration": 0.0, "error": error}
        task_failed.send_robust(tasks.takes_many, reason="failed", **told)
    [transaction] = items("transaction")
    assert transaction["spans"][0]["data"]["messaging.batch.message_count"] == 3
    assert "taskq_task_id" not in transaction["tags"]
    events = items("event")
    assert [event["exception"]["values"][0]["value"] for event in events] == ["common", "own"]
    assert [event["tags"]["taskq_task_id"] for event in events] == [contexts[0].id, contexts[2].id]


def test_without_a_client_nothing_is_sent_along_and_nothing_breaks(use: Use, broker: Broker) -> None:
    use(SENTRY)
    message = broker.find([id_from_str(tasks.works.delay(1).id)])[0].message
    assert message is not None
    assert message.headers == {}
    assert run(context_of(tasks.works), 1) == 1


# --- through a worker -------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A DSN, and the events and transactions that arrive there."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            items = [item for item in Envelope.deserialize(body).items if item.type in ("event", "transaction")]
            received.extend(json.loads(item.get_bytes()) for item in items)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://key@127.0.0.1:{http.server_address[1]}/1", received
    http.shutdown()
    http.server_close()


@pytest.mark.django_db(transaction=True)
def test_through_a_worker(worker: StartWorker, use: Use, server: tuple[str, list[dict[str, Any]]]) -> None:
    """Set up before the fork, as in the settings; the end of the process sends what it still has."""
    dsn, received = server
    use(SENTRY)
    process = worker("--threads", "2", tasks=["tests.observability.tasks"], env={"TASKQ_TEST_SENTRY": dsn})
    with pytest.raises(TaskFailed):
        tasks.fails.delay("x").get(timeout=15)
    killed = sleep.using(hard_timeout=0.2, max_retries=0).delay(30.0)
    with pytest.raises(TaskFailed):
        killed.get(timeout=15)
    assert process.terminate() == 0
    wait_for(lambda: len(received) >= 4)
    event, hard = (item for item in received if "exception" in item)
    assert event["tags"]["taskq_attempt"] == "2"
    assert hard["exception"]["values"][0]["type"] == "HardTimeout"
    tags = {"task": sleep.name, "task_id": killed.id, "queue": "default", "attempt": "1", "reason": "hard_timeout"}
    assert {f"taskq_{name}": value for name, value in tags.items()}.items() <= hard["tags"].items()
    assert hard["fingerprint"] == ["taskq", "hard_timeout", sleep.name]
    transactions = [item["transaction"] for item in received if item.get("type") == "transaction"]
    assert transactions == [tasks.fails.name] * 2
