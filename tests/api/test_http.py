"""Methods, addresses, bodies, failures: whatever is asked, the answer is JSON with a code."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.test import Client, RequestFactory, override_settings
from django.urls import resolve, reverse

from django_taskq.api import queues, tasks
from django_taskq.api.routes import ROUTES, Route
from django_taskq.api.views import by_path
from django_taskq.broker import Broker
from django_taskq.exceptions import BrokerFull, BrokerRefused, QueueFull
from django_taskq.signals import operator_action
from tests.api.conftest import Api
from tests.api.test_auth import each_route, path_of
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db
PATHS = sorted(by_path().items())


@pytest.mark.parametrize(("path", "methods"), PATHS, ids=[path for path, _ in PATHS])
def test_each_address_says_what_is_possible_there(path: str, methods: dict[str, Route]) -> None:
    nobody, address = Api(None), path_of(next(iter(methods.values())))
    allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"})
    options = nobody.call("OPTIONS", address)
    assert (options.status, options.headers["Allow"]) == (204, ", ".join(allowed))
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - set(methods):
        answer = nobody.call(method, address)
        assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "method_not_allowed", ", ".join(allowed))


def test_head_is_get_without_a_body(api: Api, broker: Broker) -> None:
    for path in ("queues", "queues/default", "workers", "stats", "dead"):
        response = api.client.head(f"/taskq/{path}", headers={"Authorization": f"Bearer {api.token}"})
        assert (response.status_code, response.content) == (200, b"")
    assert api.call("HEAD", "dead/1").status == 404


@pytest.mark.parametrize(
    "path",
    ["", "nothing", "tasks/", "tasks/1/2", "queues/", "dead/1/", "openapi.json/", "%00", "é", "a%0ab", "a" * 999],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_addresses_do_not_exist_and_nothing_redirects(method: str, path: str) -> None:
    with override_settings(APPEND_SLASH=True):
        answer = Api(None).call(method, path)
    assert (answer.status, answer.code) == (404, "not_found")
    assert ("slash" in answer.body["error"]["message"]) == (path.endswith("/") and path != "")


@each_route
def test_addresses_have_names(route: Route) -> None:
    first = next(iter(by_path()[route.path].values()))
    address = reverse(f"django_taskq:{first.name}", kwargs=dict.fromkeys(route.parameters, "x"))
    assert address == "/taskq/" + route.path.format(**dict.fromkeys(route.parameters, "x"))


@each_route
def test_parameters_that_a_route_does_not_know_are_refused(api: Api, broker: Broker, route: Route) -> None:
    """A dry_run that is passed over in silence would be a bad surprise."""
    answer = api.call(route.method, f"{path_of(route)}?dry_run=1", {} if route.body else None)
    if answer.status != 404:
        assert (answer.status, answer.code) == (400, "invalid_query")
    if route.method == "POST":
        strange = api.call("POST", path_of(route), {"dry_run": True})
        assert strange.status in (400, 404)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_body"),
        (b"{", 400, "invalid_json"),
        (b'{"task": "x",}', 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b"null", 400, "invalid_body"),
        (b'{"task": 7}', 400, "invalid_body"),
        (b"{}", 400, "invalid_body"),
        (b'{"task": "\xff"}', 400, "invalid_json"),
        (b'{"task": "\\ud800"}', 400, "invalid_json"),
        (b'{"task": "tests.api.tasks.echo", "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
        (b'{"task": "tests.api.tasks.echo", "args": [1e999]}', 400, "invalid_body"),
        (b'{"task": "tests.api.tasks.echo", "args": [NaN]}', 400, "invalid_json"),
        (b'{"task": "tests.api.tasks.echo", "kwargs": {"\\u0000": 1}}', 202, ""),
        (b'{"task": "tests.api.tasks.echo", "args": [123456789012345678901234567890]}', 202, ""),
        (b'{"task": "tests.api.tasks.echo", "args": [1], "args": [2]}', 202, ""),
        (b'{"task": "<script>"}', 404, "unknown_task"),
        (b'\xef\xbb\xbf{"task": "x"}', 400, "invalid_json"),
        (b" " * 2_000_000, 413, "payload_too_large"),
        (b" " * 5_000_000, 413, "payload_too_large"),
    ],
)
def test_bodies(api: Api, broker: Broker, body: bytes, status: int, code: str) -> None:
    response = api.client.generic(
        "POST", "/taskq/tasks", body, "application/json", headers={"Authorization": f"Bearer {api.token}"}
    )
    found = response.json()
    assert (response.status_code, found.get("error", {}).get("code", "")) == (status, code), found
    assert "<script>" not in str(found) or response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("length", "status"), [("nonsense", 202), ("-1", 202), ("9" * 30, 413), ("9" * 5000, 413), ("\u0661", 202)]
)
def test_lengths_that_make_no_sense(api: Api, broker: Broker, length: str, status: int) -> None:
    request = RequestFactory().generic("POST", "/taskq/tasks", b'{"task": "tests.api.tasks.echo"}', "application/json")
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {api.token}"
    assert request.body
    request.META["CONTENT_LENGTH"] = length
    view, args, kwargs = resolve("/taskq/tasks")
    assert view(request, *args, **kwargs).status_code == status


def test_a_body_that_does_not_say_how_long_it_is_is_bounded_too(api: Api, broker: Broker, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    request = RequestFactory().generic("POST", "/taskq/tasks", b" " * 2_000_000, "application/json")
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {api.token}"
    assert request.body
    request.META["CONTENT_LENGTH"] = ""
    view, args, kwargs = resolve("/taskq/tasks")
    assert view(request, *args, **kwargs).status_code == 413


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "application/xml"]
)
def test_only_json_is_read(api: Api, broker: Broker, kind: str) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    body = b'{"task": "tests.api.tasks.echo"}'
    answer = api.client.generic("POST", "/taskq/tasks", body, kind, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    for right in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        assert api.client.generic("POST", "/taskq/tasks", body, right, headers=headers).status_code == 202


def test_answers_are_not_kept_nor_sniffed(api: Api, broker: Broker) -> None:
    for answer in (api.get("queues"), api.get("nothing"), Api(None).get("queues"), api.call("PUT", "queues")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if answer.status != 404:
            assert answer.headers["Cache-Control"] == "no-store"


# --- failures ---------------------------------------------------------------------------------------------------------


@each_route
def test_while_redis_is_away(
    api: Api, broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, route: Route
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.1)
    monkeypatch.setattr("django_taskq.broker.broker.retrying", lambda attempt, seconds: attempt())
    redis_server.kill()
    body = {"task": "tests.api.tasks.echo"} if route.path == "tasks" else {"all": True} if route.body else None
    answer = api.call(route.method, path_of(route), body)
    if route.path.startswith(("dead", "periodic/")):  # the database is still there
        assert answer.status in (200, 404)
        return
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "broker_unavailable", "5")
    assert redis_server.url not in str(answer.body)
    assert ("id" in answer.body["error"]) == (route.path == "tasks")


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "code", "wait"),
    [
        (QueueFull(), 429, "queue_full", "5"),
        (BrokerFull("Redis at 10.0.0.7 is full"), 503, "broker_full", "5"),
        (BrokerRefused("Redis at 10.0.0.7 said NOPERM"), 502, "broker_refused", None),
        (OperationalError("no route to 10.0.0.7"), 503, "database_unavailable", "5"),
    ],
)
def test_what_others_refuse(
    api: Api,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
    wait: str | None,
) -> None:
    monkeypatch.setattr(tasks, "lookup", fail_with(error))
    answer = api.post("tasks", {"task": "x"})
    assert (answer.status, answer.code, answer.headers.get("Retry-After")) == (status, code, wait)
    assert "10.0.0.7" not in str(answer.body)


def test_a_database_that_is_away_while_the_caller_is_looked_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.api.tokens.find", fail_with(OperationalError("away")))
    assert api.get("dead").code == "database_unavailable"


def test_a_mistake_of_ours_is_told_to_the_log_and_not_to_the_caller(
    api: Api, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs["request"].path)

    got_request_exception.connect(hear)
    monkeypatch.setattr(queues, "get_settings", fail_with(ZeroDivisionError("s3cret")))
    api.client.raise_request_exception = False
    with caplog.at_level(logging.ERROR, "django.request"), override_settings(DEBUG=True):
        answer = api.get("queues")
    got_request_exception.disconnect(hear)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "s3cret" not in str(answer)
    assert heard == ["/taskq/queues"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_without_the_admin_nothing_is_logged_and_all_works(api: Api, broker: Broker, settings: Any) -> None:
    from django.contrib.admin.models import LogEntry

    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
    assert api.post("queues/default/pause").status == 200
    assert not LogEntry.objects.exists()


def test_what_was_done_stays_done_when_the_log_cannot_be_written(
    api: Api, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django.contrib.admin.models import LogEntry

    monkeypatch.setattr(LogEntry.objects, "create", fail_with(OperationalError("the disk is full")))
    assert api.post("queues/default/pause").body["changed"] is True
    assert "could not be logged: queue default" in caplog.text
    assert api.get("queues/default").body["paused"] is True


def test_whoever_listens_hears_what_was_done(api: Api, broker: Broker) -> None:
    heard: list[tuple[Any, ...]] = []

    def hear(sender: str, user: Any, target: str, count: int, **_: Any) -> None:
        heard.append((sender, user, target, count))

    operator_action.connect(hear)
    for _ in range(2):
        api.post("queues/default/pause")
    sent = api.post("tasks", {"task": "tests.api.tasks.echo"}).body["id"]
    operator_action.disconnect(hear)
    assert heard == [("pause", api.user, "default", 1), ("submit", api.user, sent, 1)]


def test_the_table_has_each_route_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_it_may_be_mounted_anywhere(api: Api, broker: Broker, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.api.elsewhere"
    headers = {"Authorization": f"Bearer {api.token}"}
    client = Client()
    assert client.get("/v1/queue-api/openapi.json").json()["servers"] == [{"url": "/v1/queue-api"}]
    sent = client.post(
        "/v1/queue-api/tasks", json.dumps({"task": "tests.api.tasks.echo"}), "application/json", headers=headers
    )
    assert client.get(sent["Location"], headers=headers).status_code == 200
