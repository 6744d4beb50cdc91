"""What flow control shows and does: what is blocked and by what, circuit breakers, periodic tasks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry
from django.utils.dateparse import parse_datetime

from django_taskq import Breaker
from django_taskq.api.paging import encode_cursor
from django_taskq.broker import Broker
from django_taskq.broker.periodic import Tick, Ticks
from django_taskq.core.ids import id_to_str
from django_taskq.periodic_task import PeriodicTask
from django_taskq.signals import operator_action
from tests.api.conftest import Api, ready
from tests.api.tasks import echo, remind
from tests.broker.helpers import Hand, Shard
from tests.web.scene import Scene

pytestmark = pytest.mark.django_db


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, int]]]:
    """Actions, their targets and how many were touched."""
    found: list[tuple[str, str, int]] = []
    operator_action.connect(listen := lambda sender, target, count, **_: found.append((sender, target, count)))
    yield found
    operator_action.disconnect(listen)


def every_page(api: Api, path: str) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while cursor is not None:
        page = api.get(f"{path}{'&' if '?' in path else '?'}limit=2&cursor={cursor}").body
        found += page["items"]
        cursor = page["next_cursor"]
    return found


# --- what waits -------------------------------------------------------------------------------------------------------


def test_the_tasks_of_a_queue_page_by_page(api: Api, hand: Hand) -> None:
    ids = [id_to_str(id) for id in Shard(hand.shard.broker).seed_waiting(5)]
    hand.claim(1)
    later = echo.using(run_after=60, priority=3).delay()
    waiting = every_page(api, "queues/default/tasks")
    assert [each["id"] for each in waiting] == ids
    assert [each["state"] for each in waiting] == ["running", *["queued"] * 4]
    assert (waiting[0]["worker"], waiting[0]["attempts"], waiting[1]["attempts"]) == (hand.name, 1, 0)
    [scheduled] = every_page(api, "queues/default/tasks?state=scheduled")
    assert (scheduled["id"], scheduled["task"], scheduled["priority"]) == (later.id, echo.name, 3)
    assert isinstance(parse_datetime(scheduled["due_at"]), dt.datetime)
    assert api.get("queues/elsewhere/tasks").code == "unknown_queue"
    assert api.get("queues/default/tasks?state=lost").code == "invalid_query"


def test_what_is_blocked_in_a_queue_and_by_a_limit(api: Api, hand: Hand) -> None:
    scene = Scene(hand.shard.broker)
    scene.limited(hand, "task:shop.sync:a/b", 4)
    scene.limited(hand, "task:shop.sync:c", 2)
    blocked = every_page(api, "queues/default/tasks?state=blocked")
    assert [(each["state"], each["waits_for"]) for each in blocked] == [
        *[("blocked", "task:shop.sync:a/b")] * 3, ("blocked", "task:shop.sync:c"),
    ]  # fmt: skip
    assert every_page(api, "limits/task:shop.sync:a/b/waiting") == blocked[:3]
    assert every_page(api, f"limits/{quote('task:shop.sync:c', safe='')}/waiting") == blocked[3:]
    assert every_page(api, "limits/task:nobody/waiting") == []


@pytest.mark.parametrize("cursor", ["x", encode_cursor("x"), encode_cursor("9" * 30), encode_cursor("-1"), "WzFd"])
@pytest.mark.parametrize("path", ["queues/default/tasks", "queues/default/tasks?state=blocked", "limits/x/waiting"])
def test_a_cursor_that_no_list_gave_is_refused(api: Api, broker: Broker, path: str, cursor: str) -> None:
    answer = api.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}")
    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize("entry", ["9" * 19 + "-1", "²-1", "1-" + "9" * 19, "1"])
def test_no_cursor_makes_redis_complain(api: Api, broker: Broker, entry: str) -> None:
    echo.delay()
    assert api.get(f"queues/default/tasks?cursor={encode_cursor('0/' + entry)}").code == "invalid_cursor"


# --- circuit breakers -------------------------------------------------------------------------------------------------


def test_a_circuit_breaker_is_closed(api: Api, broker: Broker, heard: list[tuple[str, str, int]]) -> None:
    scene = Scene(broker)
    scene.fail_breaker("shop/crm")
    closed = api.post("breakers/shop/crm/close")
    assert (closed.status, closed.body) == (200, {"breaker": "shop/crm", "changed": True})
    assert Breaker("shop/crm").ask("enter", "") == 0.0
    [shown] = api.get("breakers").body["items"]
    assert (shown["state"], shown["failures"]) == ("closed", 0)
    assert api.post("breakers/shop%2Fcrm/close").body["changed"] is False
    assert api.post("breakers/other/close").code == "unknown_breaker"
    assert heard == [("close", "shop/crm", 1)]
    assert "shop/crm is closed" in LogEntry.objects.get().change_message


# --- periodic tasks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(broker: Broker) -> list[PeriodicTask]:
    now = dt.datetime.fromtimestamp(broker.time(), dt.UTC)
    common = {"task": remind.name, "args": '[7, "2026-12-01"]', "kwargs": '{"template":"hi"}', "since": now}
    return [
        PeriodicTask.objects.create(name="by/hand", cron="30 6 * * *", timezone="Europe/Berlin", **common),
        PeriodicTask.objects.create(name="gone", task="nobody.knows", every=dt.timedelta(hours=6), enabled=False),
        PeriodicTask.objects.create(name="often", every=dt.timedelta(seconds=90), **common),
    ]


def test_periodic_tasks_are_listed_with_what_became_of_their_ticks(
    api: Api, broker: Broker, rows: list[PeriodicTask]
) -> None:
    Ticks(broker).give_up(Tick("often", 1, missed=3))
    found = every_page(api, "periodic")
    assert [each["name"] for each in found] == ["by/hand", "gone", "often"]
    cron, gone, often = found
    assert (cron["cron"], cron["every"], cron["timezone"], cron["enabled"]) == (
        "30 6 * * *",
        None,
        "Europe/Berlin",
        True,
    )
    assert (cron["args"], cron["kwargs"]) == ([7, "2026-12-01"], {"template": "hi"})
    assert parse_datetime(cron["next_at"])
    assert (gone["every"], gone["words"], gone["next_at"], gone["enabled"]) == (21_600.0, "Every 6 hours", None, False)
    assert (often["missed"], often["sent"], often["late"], often["last_task"]) == (3, 0, 0, None)
    assert api.get("periodic/by/hand").body == cron
    assert api.get("periodic/other").code == "unknown_periodic_task"


def test_arguments_are_shown_to_whoever_may_see_them(caller: Callable[..., Api], rows: list[PeriodicTask]) -> None:
    PeriodicTask.objects.update(kwargs='{"password":"s3cret"}')
    assert {"args", "kwargs"}.isdisjoint(caller("view_periodictask").get("periodic/often").body)
    shown = caller("view_periodictask", "view_arguments").get("periodic/often").body
    assert shown["args"] == [7, "2026-12-01"]
    assert "s3cret" not in str(shown)


def test_one_is_run_now(api: Api, broker: Broker, rows: list[PeriodicTask], heard: list[tuple[str, str, int]]) -> None:
    sent = api.post("periodic/by/hand/run")
    assert (sent.status, sent.headers["Location"]) == (202, f"/taskq/tasks/{sent.body['id']}")
    assert api.get(f"tasks/{sent.body['id']}").body["task"] == remind.name
    assert ready(broker) == 1
    assert api.post("periodic/gone/run").code == "unknown_task"
    PeriodicTask.objects.update(args="[]")
    assert api.post("periodic/often/run").code == "invalid_arguments"
    assert api.post("periodic/other/run").code == "unknown_periodic_task"
    assert heard == [("run", "by/hand", 1)]
    assert LogEntry.objects.get().object_repr == "by/hand"


def test_one_is_disabled_and_enabled(api: Api, rows: list[PeriodicTask], heard: list[tuple[str, str, int]]) -> None:
    answers = [api.post(f"periodic/often/{action}").body for action in ("disable", "disable", "enable", "enable")]
    assert [(answer["enabled"], answer["changed"]) for answer in answers] == [
        (False, True), (False, False), (True, True), (True, False),
    ]  # fmt: skip
    since = rows[2].since
    rows[2].refresh_from_db()
    assert rows[2].since > since  # what came meanwhile is not made up for
    assert heard == [("disable", "often", 1), ("enable", "often", 1)]


def test_a_task_with_a_slash_in_its_name_is_found(api: Api, broker: Broker) -> None:
    assert api.post("types/nobody/knows/pause").code == "unknown_task"
