"""Language, time zone, request id and context variables go from the sending to the task, and leave no trace there."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from datetime import timezone as fixed_timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils import timezone, translation

from django_taskq.broker import Broker, get_broker
from django_taskq.core.ids import id_from_str
from django_taskq.middleware import call_chain
from django_taskq.middleware.request_id import RequestIdMiddleware, current_request_id
from django_taskq.worker.pools import call_task
from tests.observability import tasks
from tests.observability.conftest import Use, batch_of, context_of, run
from tests.observability.tasks import locale, tenant

if TYPE_CHECKING:
    from tests.conftest import StartWorker

ALL = ("language.language", "timezone.timezone", "request_id.request_id", "context_vars.context_vars")
VARS = ["tests.observability.tasks.tenant", "tests.observability.tasks.locale"]
BOTH = pytest.mark.parametrize("task", [tasks.looks_around, tasks.looks_around_async])


def headers_of(id: str) -> dict[str, str]:
    message = get_broker().find([id_from_str(id)])[0].message
    assert message is not None
    return message.headers


@pytest.fixture
def all_of_them(use: Use, broker: Broker) -> None:
    use(*ALL, CONTEXT_VARS=VARS)


@BOTH
@pytest.mark.usefixtures("all_of_them")
def test_what_is_active_at_the_sending_is_active_in_the_task(task: Any) -> None:
    tokens = tenant.set({"id": 7}), current_request_id.set("req-1")
    with translation.override("de"), timezone.override("Europe/Vienna"):
        headers = headers_of(task.delay().id)
    tenant.reset(tokens[0])
    current_request_id.reset(tokens[1])
    assert headers == {
        "context:language": "de",
        "context:timezone": "Europe/Vienna",
        "context:request_id": "req-1",
        "context:vars": '{"tests.observability.tasks.tenant":{"id":7}}',
    }
    before = tasks._surroundings()
    assert run(context_of(task, headers=headers)) == {
        "language": "de", "timezone": "Europe/Vienna", "request_id": "req-1", "tenant": {"id": 7}, "locale": "none"
    }  # fmt: skip
    assert tasks._surroundings() == before


@pytest.mark.usefixtures("all_of_them")
def test_nothing_is_left_behind_by_a_task_that_fails() -> None:
    headers = {"context:language": "de", "context:request_id": "r", "context:vars": json.dumps({VARS[0]: 1})}
    before = tasks._surroundings()
    assert isinstance(run(context_of(tasks.fails, headers=headers), "x"), ValueError)
    assert tasks._surroundings() == before


@BOTH
@pytest.mark.usefixtures("all_of_them")
@pytest.mark.parametrize(
    "headers",
    [
        {"context:language": "xx-unknown"},
        {"context:language": "../../etc"},
        {"context:language": "d" * 100_000},
        {"context:timezone": "Mars/Olympus"},
        {"context:timezone": "../../etc/passwd"},
        {"context:timezone": "/etc/localtime"},
        {"context:timezone": "Europe"},
        {"context:timezone": "E" * 100_000},
        {"context:timezone": "Europe/Vien\x00na"},
        {"context:request_id": "<script>"},
        {"context:request_id": "x" * 129},
        {"context:request_id": "a\nb"},
        {"context:vars": "{"},
        {"context:vars": "[1]"},
        {"context:vars": "[" * 8_000},
        {"context:vars": json.dumps({"os.environ": 1, "x": {"y": 1}})},
        {"context:vars": json.dumps({VARS[0]: "x" * 9_000})},
    ],
    ids=str,
)
def test_headers_that_make_no_sense_are_passed_over(task: Any, headers: dict[str, str]) -> None:
    assert run(context_of(task, headers=headers)) == tasks._surroundings()


@pytest.mark.usefixtures("all_of_them")
def test_what_has_no_name_is_not_sent() -> None:
    with translation.override(None), timezone.override(fixed_timezone(timedelta(hours=3))):
        translation.deactivate_all()
        assert headers_of(tasks.works.delay(1).id) == {}


@pytest.mark.usefixtures("all_of_them")
def test_what_one_sender_had_active_is_not_active_for_a_batch_of_many() -> None:
    headers = {"context:language": "de", "context:request_id": "r", "context:vars": json.dumps({VARS[0]: "acme"})}
    batch = batch_of(tasks.takes_many, context_of(tasks.takes_many, headers=headers), context_of(tasks.takes_many))
    seen: list[Any] = []
    batch.task = SimpleNamespace(
        func=lambda calls: seen.append(tasks._surroundings()),
        takes_context=False,
        is_async=False,
        codec=tasks.takes_many.codec,
    )  # type: ignore[assignment]
    run(batch, list(batch.calls))
    assert seen == [tasks._surroundings()]
    assert batch.calls[0].context.headers == headers


# --- context variables ------------------------------------------------------------------------------------------------


class Person:
    pass


@pytest.mark.usefixtures("all_of_them")
@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: 2}, Person(), float("nan"), b"x", {"a": {1}}, "\ud800"],
    ids=["tuple", "key", "object", "nan", "bytes", "set", "surrogate"],
)
def test_a_value_that_json_would_change_is_refused_at_the_sending(value: Any) -> None:
    token = tenant.set(value)
    try:
        with pytest.raises(ImproperlyConfigured, match=re.escape(f"TASKQ['CONTEXT_VARS']: {VARS[0]} is")):
            tasks.works.delay(1)
    finally:
        tenant.reset(token)


@pytest.mark.usefixtures("all_of_them")
def test_values_that_are_too_long_are_refused_at_the_sending() -> None:
    token = tenant.set("x" * 9_000)
    try:
        with pytest.raises(ImproperlyConfigured, match=r"take 9,0\d\d bytes; 8,192 may go"):
            tasks.works.delay(1)
    finally:
        tenant.reset(token)


@pytest.mark.usefixtures("all_of_them")
def test_none_is_a_value_and_a_default_is_not_sent() -> None:
    token = tenant.set(None)
    assert headers_of(tasks.works.delay(1).id)["context:vars"] == f'{{"{VARS[0]}":null}}'
    tenant.reset(token)
    assert locale.get() == "none"
    assert "context:vars" not in headers_of(tasks.works.delay(1).id)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tests.missing.x", "tests.missing.x cannot be imported"),
        ("tests.observability.tasks.works", "is no ContextVar"),
    ],
)
def test_a_variable_that_is_none_is_found_at_the_start_of_a_worker_and_by_the_checks(
    db: None, use: Use, path: str, text: str
) -> None:
    use("context_vars.context_vars", CONTEXT_VARS=[path])
    with pytest.raises(ImproperlyConfigured, match=text):
        call_chain(call_task)
    with pytest.raises(SystemCheckError, match=rf"django_taskq\.E002.*{text}"):
        call_command("check")


def test_variables_without_the_middleware_are_an_error(db: None, use: Use) -> None:
    use(CONTEXT_VARS=VARS)
    with pytest.raises(SystemCheckError, match=r"E002.*the middleware that sends them along is missing"):
        call_command("check")


# --- request ids ------------------------------------------------------------------------------------------------------


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(current_request_id.get())


async def async_view(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(current_request_id.get())


def respond(**headers: str) -> list[HttpResponse]:
    request = RequestFactory().get("/", headers=headers)

    async def respond_async() -> HttpResponse:
        return await RequestIdMiddleware(async_view)(request)  # type: ignore[misc]

    return [RequestIdMiddleware(view)(request), asyncio.run(respond_async())]  # type: ignore[list-item]


def test_a_request_keeps_the_id_that_a_proxy_gave_it() -> None:
    for response in respond(x_request_id="edge-42"):
        assert (response.content, response["X-Request-ID"]) == (b"edge-42", "edge-42")
    assert current_request_id.get() == ""


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<b>", "ü"])
def test_an_id_that_is_none_is_replaced(given: str) -> None:
    for response in respond(x_request_id=given):
        assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-ID"])
        assert response.content.decode() == response["X-Request-ID"]


def test_an_id_that_the_view_chose_stays() -> None:
    def chooses(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"X-Request-ID": "mine"})

    response: Any = RequestIdMiddleware(chooses)(RequestFactory().get("/"))
    assert response["X-Request-ID"] == "mine"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("all_of_them")
def test_through_a_worker(worker: StartWorker) -> None:
    """One thread and one loop, so that tasks with and without a context follow each other in the same place."""
    worker("--threads", "1", tasks=["tests.observability.tasks"])
    plain = tasks.looks_around.delay()
    token = current_request_id.set("req-9")
    with translation.override("fr"), timezone.override("Asia/Tokyo"):
        told = [task.delay() for task in (tasks.looks_around, tasks.looks_around_async)]
    current_request_id.reset(token)
    after = tasks.looks_around.delay()
    for handle in told:
        seen = handle.get(timeout=15)
        assert (seen["language"], seen["timezone"], seen["request_id"]) == ("fr", "Asia/Tokyo", "req-9")
    assert plain.get(timeout=15) == after.get(timeout=15) == tasks._surroundings()
