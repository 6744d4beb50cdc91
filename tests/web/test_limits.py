"""Limits: places in use, rates, circuit breakers."""

from __future__ import annotations

import time

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq import Breaker
from django_taskq.admin.look import look_again
from django_taskq.core.gates import concurrency_gate, rate_gate
from django_taskq.core.ids import id_to_str
from django_taskq.rates import parse_rate
from tests.broker.test_limits import gated
from tests.web.conftest import Allowed
from tests.web.scene import LIMITS, OVERVIEW, QUEUES, Scene, page

pytestmark = pytest.mark.django_db


def break_it(name: str = "crm") -> Breaker:
    breaker = Breaker(name, failures=1)
    with pytest.raises(ZeroDivisionError), breaker:
        raise ZeroDivisionError
    look_again()
    return breaker


def test_nothing_is_limited(admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.admin.limits.all_tasks", list)  # those of other tests have limits
    assert "Nothing is limited now" in page(admin, LIMITS)


def test_places_in_use_are_listed_by_their_line(admin: Client, scene: Scene) -> None:
    for key, calls in (("a", 2), ("b", 4)):
        gate = concurrency_gate(f"task:shop.sync:{key}", 1)
        for _ in range(calls):
            scene.shard.seed_waiting(1, gates=gated(gate).gates)
    scene.worker().claim()
    rows = admin.get(LIMITS).context["places"]
    assert [(row["of"], row["holders"], row["waiting"]) for row in rows] == [("b", "1", "3"), ("a", "1", "1")]
    assert "shop" in page(admin, LIMITS)


def test_a_rate_says_when_the_next_may_start(
    admin: Client, scene: Scene, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.admin.limits.all_tasks", list)  # those of other tests have rates
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {"rate_limit": "2/h"}}}  # type: ignore[attr-defined]
    [row] = admin.get(LIMITS).context["rates"]
    assert (row["rate"], row["next"]) == ("2/h", "now")
    gate = rate_gate("queue:mail", parse_rate("2/h"), 1)
    scene.shard.seed_waiting(1, gates=gated(gate).gates)
    scene.worker().claim()
    time.sleep(1.1)  # for so long a look is kept
    [row] = admin.get(LIMITS).context["rates"]
    assert row["next"] == "30 min"


def test_a_breaker_is_shown_and_closed(admin: Client, scene: Scene) -> None:
    breaker = break_it()
    assert "The circuit breaker crm is open" in page(admin, OVERVIEW)
    [row] = admin.get(LIMITS).context["breakers"]
    assert (row["name"], row["level"], row["closable"]) == ("crm", "bad", True)
    assert admin.post(f"{LIMITS}close/", {"breaker": "crm"}).status_code == 302
    with breaker:
        pass
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["crm"]
    look_again()
    [row] = admin.get(LIMITS).context["breakers"]
    assert (row["level"], row["closable"]) == ("ok", False)
    assert admin.post(f"{LIMITS}close/", {"breaker": "no such"}).status_code == 404
    assert admin.get(f"{LIMITS}close/").status_code == 405


def test_breakers_that_are_not_closed_come_first(admin: Client, scene: Scene) -> None:
    scene.fail_breaker("bank", failures=2)
    break_it()
    assert [row["name"] for row in admin.get(LIMITS).context["breakers"]] == ["crm", "bank"]


def test_closing_needs_the_permission_to_pause(allowed: Allowed, scene: Scene) -> None:
    break_it()
    watcher = allowed("monitor")
    assert "Close" not in page(watcher, LIMITS)
    assert watcher.post(f"{LIMITS}close/", {"breaker": "crm"}).status_code == 403


def test_names_that_others_chose_are_only_text(admin: Client, scene: Scene) -> None:
    gate = concurrency_gate("task:t:<script>alert(1)</script>", 1)
    scene.shard.seed_waiting(2, gates=gated(gate).gates)
    scene.worker().claim()
    assert "&lt;script&gt;" in page(admin, LIMITS)


def test_the_page_of_a_queue_lists_what_is_blocked(admin: Client, scene: Scene) -> None:
    gate = concurrency_gate("task:shop.sync", 1)
    ids = [scene.shard.seed_waiting(1, task="shop.sync", gates=gated(gate).gates)[0] for _ in range(3)]
    scene.worker().claim()
    url = f"{QUEUES}default/change/"
    assert [row["id"] for row in admin.get(url, {"blocked": "1"}).context["rows"]] == [id_to_str(id) for id in ids[1:]]
    admin.post(f"{QUEUES}default/cancel/", {"task": id_to_str(ids[1]), "blocked": "1"})
    assert [row["id"] for row in admin.get(url, {"blocked": "1"}).context["rows"]] == [id_to_str(ids[2])]
    assert "Nothing is blocked" in page(admin, f"{QUEUES}mail/change/", blocked="1")
