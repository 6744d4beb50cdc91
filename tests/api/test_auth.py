"""Who may do what: permissions, sessions with their CSRF token, bearer tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone

from django_taskq.api import tokens
from django_taskq.api.routes import ROUTES, Route
from django_taskq.broker import Broker
from django_taskq.models import ApiToken, DeadTask
from tests.api.conftest import EVERYTHING, Api, ready, record, user_with
from tests.api.tasks import internal
from tests.records.outcomes import failed

pytestmark = pytest.mark.django_db
VALUES = {
    "id": "1", "queue": "default", "worker": "w", "task": "tests.api.tasks.remind", "limit": "queue:default",
    "breaker": "crm", "name": "report",
}  # fmt: skip
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


def path_of(route: Route) -> str:
    values = {**VALUES, "id": str(uuid.uuid4())} if route.path.startswith("tasks") else VALUES
    return route.path.format(**values)


@each_route
def test_each_route_needs_each_of_its_permissions(caller: Callable[..., Api], broker: Broker, route: Route) -> None:
    record(failed())
    assert route.permissions
    for lacking in route.permissions:
        others = [codename for codename in EVERYTHING if codename != lacking]
        answer = caller(*others).call(route.method, path_of(route), {} if route.body else None)
        assert (answer.status, answer.code) == (403, "permission_denied")
        assert answer.body["error"]["required"] == [f"django_taskq.{lacking}"]
        assert "insufficient_scope" in answer.headers["WWW-Authenticate"]
    assert DeadTask.objects.get().state == "dead"
    assert caller(*route.permissions).call(route.method, path_of(route), {} if route.body else None).status != 403


@each_route
def test_no_route_is_open_to_nobody(db: None, broker: Broker, route: Route) -> None:
    internal.delay(1)
    for nobody in (Api(None), Api("taskq_" + "0" * 12 + "_" + "x" * 43)):
        answer = nobody.call(route.method, path_of(route), {} if route.body else None)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="django_taskq"')
    assert ready(broker) == 1


def test_permissions_of_groups_count_and_superusers_may_everything(db: None, broker: Broker) -> None:
    user, group = user_with(), Group.objects.create(name="operators")
    api = Api(tokens.create(user, "t")[1])
    assert api.get("queues").status == 403
    group.permissions.add(Permission.objects.get(codename="monitor"))
    user.groups.add(group)
    assert api.get("queues").status == 200
    root = User.objects.create_superuser("root", "root@example.com", "x")
    assert Api(tokens.create(root, "t")[1]).get("dead").status == 200


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(db: None) -> Client:
    """Somebody who has signed in and may do everything."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with(*EVERYTHING))
    return client


def csrf(client: Client) -> dict[str, str]:
    client.cookies["csrftoken"] = token = "a" * 32
    return {"X-CSRFToken": token}


def test_a_session_may_read_and_needs_the_csrf_token_to_change(browser: Client, broker: Broker) -> None:
    assert browser.get("/taskq/queues").status_code == 200
    refused = browser.post("/taskq/queues/default/pause", content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
    wrong = browser.post("/taskq/queues/default/pause", content_type="application/json", headers={"X-CSRFToken": "b"})
    assert wrong.status_code == 403
    assert browser.get("/taskq/queues/default").json()["paused"] is False
    right = browser.generic("POST", "/taskq/queues/default/pause", headers=csrf(browser))
    assert right.json()["paused"] is True


@pytest.mark.parametrize(
    "type_", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_what_a_form_of_another_site_can_send_changes_nothing(browser: Client, broker: Broker, type_: str) -> None:
    record(failed())
    body = b'{"all": true, "x": "="}'
    for headers in ({}, csrf(browser)):
        response = browser.generic("POST", "/taskq/dead/discard", body, content_type=type_, headers=headers)
        assert response.status_code in (403, 415)
        assert response.json()["error"]["code"] in ("csrf_failed", "unsupported_media_type")
    assert DeadTask.objects.get().state == "dead"


def test_another_origin_is_refused_even_with_the_token(browser: Client, broker: Broker) -> None:
    headers = {**csrf(browser), "Origin": "https://evil.example"}
    response = browser.generic("POST", "/taskq/queues/default/pause", headers=headers)
    assert response.json()["error"]["code"] == "csrf_failed"


def test_a_user_who_was_deactivated_is_out(browser: Client, broker: Broker) -> None:
    User.objects.update(is_active=False)
    assert browser.get("/taskq/queues").status_code == 401


def test_a_scheme_that_is_not_ours_leaves_the_session_alone(browser: Client, broker: Broker) -> None:
    """A proxy in front of the site may ask for Basic."""
    assert browser.get("/taskq/queues", headers={"Authorization": "Basic eDp5"}).status_code == 200
    # but whoever sends a token is judged by it, not by a cookie that happens to come along
    assert browser.get("/taskq/queues", headers={"Authorization": "Bearer x"}).status_code == 401


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_only_a_digest_of_a_token_is_kept(db: None) -> None:
    row, text = tokens.create(user_with(), "deploy")
    stored = " ".join(map(str, ApiToken.objects.values_list().get()))
    secret = text.removeprefix(f"taskq_{row.prefix}_")  # which may have underscores itself
    assert len(text) >= 50
    assert row.prefix in text
    assert text not in stored
    assert secret not in stored


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text.upper(),
        lambda text: text + " x",
        lambda text: text.replace("taskq_", "taskq-"),
        lambda text: f"taskq_{'0' * 12}_{text[-43:]}",
        lambda text: text[:19] + "x" * 43,
        lambda text: "\x00" * 10,
        lambda text: "taskq_" * 5000,
        lambda text: "é" * 62,
    ],
)
def test_a_wrong_token_opens_nothing(caller: Callable[..., Api], broker: Broker, spoil: Callable[[str], str]) -> None:
    api = caller("monitor")
    assert api.token is not None
    answer = api.call("GET", "queues", Authorization=f"Bearer {spoil(api.token)}")
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert ApiToken.objects.get().used_at is None


def test_an_expired_a_revoked_and_an_inactive_users_token_open_nothing(
    caller: Callable[..., Api], broker: Broker
) -> None:
    api = caller("monitor")
    assert api.get("queues").status == 200
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    assert api.get("queues").status == 200
    ApiToken.objects.update(expires_at=timezone.now())
    assert api.get("queues").status == 401
    ApiToken.objects.update(expires_at=None)
    User.objects.update(is_active=False)
    assert api.get("queues").status == 401
    User.objects.update(is_active=True)
    row = ApiToken.objects.get()
    assert tokens.revoke(row) is True
    assert api.get("queues").status == 401
    assert tokens.revoke(row) is False


def test_a_token_is_compared_in_constant_time_even_where_there_is_none(
    caller: Callable[..., Api], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[Any, Any]] = []
    original = tokens.constant_time_compare

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return original(one, other)

    monkeypatch.setattr(tokens, "constant_time_compare", compare)
    assert caller("monitor").get("queues").status == 200
    assert Api(f"taskq_{'0' * 12}_{'x' * 43}").get("queues").status == 401
    assert len(compared) == 2
    assert {len(text) for pair in compared for text in pair} == {64}


def test_its_last_use_is_noted_once_a_minute(
    caller: Callable[..., Api], broker: Broker, django_assert_num_queries: Any
) -> None:
    api = caller("monitor")
    api.get("queues")
    used = ApiToken.objects.get().used_at
    assert used is not None
    with django_assert_num_queries(3) as queries:  # the token with its user, and the permissions of user and groups
        api.get("queues")
    assert not any(query["sql"].startswith("UPDATE") for query in queries.captured_queries)
    ApiToken.objects.update(used_at=used - timedelta(minutes=2))
    api.get("queues")
    now = ApiToken.objects.get().used_at
    assert now is not None
    assert now > used
