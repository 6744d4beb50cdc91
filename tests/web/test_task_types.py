"""Task types: what ran in the last hour, how fast, how often it failed."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.broker.inspector import Inspector
from tests.sampleapp.tasks import add
from tests.web.conftest import Allowed
from tests.web.scene import TYPES, Scene, page

pytestmark = pytest.mark.django_db


def rows(client: Client, **query: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get(TYPES, query).context["rows"]}


def test_a_type_has_rate_failures_and_percentiles(admin: Client, scene: Scene) -> None:
    for minute in (1, 2, 30):
        scene.past(minute, task="shop.send", succeeded=57, failed=3, retried=5)
    row = rows(admin)["shop.send"]
    assert (row["rate"], row["ended"], row["share"], row["retried"]) == ("3", "180", "5.0 %", "15")
    for low, shown, high in ((30, row["wait"][1], 52), (200, row["run"][0], 320), (200, row["run"][1], 320)):
        assert low <= int(shown.removesuffix(" ms")) <= high
    assert row["queues"] == ["default"]
    assert row["spark"]


def test_a_type_is_counted_over_all_its_queues(admin: Client, scene: Scene) -> None:
    scene.past(1, task="shop.send", succeeded=1)
    scene.past(2, task="shop.send", queue="mail", succeeded=2)
    row = rows(admin)["shop.send"]
    assert (row["ended"], row["queues"]) == ("3", ["default", "mail"])


def test_registered_tasks_are_listed_and_unknown_ones_marked(admin: Client, scene: Scene) -> None:
    scene.past(1, task="shop.of_yesterday", succeeded=1)
    found = rows(admin)
    assert found["tests.sampleapp.tasks.add"]["known"]
    assert found["tests.sampleapp.tasks.add"]["share"] == "-"
    assert not found["shop.of_yesterday"]["known"]
    assert "unknown here" in page(admin, TYPES)


def test_sorting(admin: Client, scene: Scene) -> None:
    scene.past(1, task="b.often", succeeded=100)
    scene.past(2, task="a.fails", succeeded=1, failed=3)
    scene.past(3, task="c.retries", succeeded=1, retried=9)
    first = {key: next(iter(rows(admin, sort=key))) for key in ("name", "rate", "failures", "retries")}
    assert first == {"name": "a.fails", "rate": "b.often", "failures": "a.fails", "retries": "c.retries"}
    for strange in ("", "x", "-rate", "\x00"):
        assert next(iter(rows(admin, sort=strange))) == "a.fails"


def test_a_page_has_an_end(admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.admin.task_types.MOST", 1)
    for number in range(3):
        scene.past(1 + number, task=f"a.task{number}", succeeded=1)
    context = admin.get(TYPES).context
    assert len(context["rows"]) == 1
    assert context["more"] >= 2


def test_failures_lead_to_the_records(admin: Client, scene: Scene) -> None:
    scene.past(1, task="shop.send", succeeded=1, failed=20)
    row = rows(admin)["shop.send"]
    assert row["level"] == "bad"
    assert row["results_url"] == "/admin/django_taskq/taskresult/?task=shop.send"
    assert row["dead_url"] == "/admin/django_taskq/deadtask/?task=shop.send"


def test_a_task_is_paused_and_resumed(admin: Client, scene: Scene) -> None:
    name = "tests.sampleapp.tasks.add"
    for action, paused in (("pause", True), ("pause", True), ("resume", False)):
        assert admin.post(f"{TYPES}{action}/", {"task": name}).status_code == 302
        assert rows(admin)[name]["paused"] is paused
        assert ("paused</span>" in page(admin, TYPES)) is paused
    assert [entry.object_id for entry in LogEntry.objects.all()] == [name, name]
    assert admin.post(f"{TYPES}pause/", {"task": "no.such"}).status_code == 404
    assert admin.get(f"{TYPES}pause/").status_code == 405


def test_pausing_needs_its_permission(allowed: Allowed, scene: Scene) -> None:
    watcher = allowed("monitor")
    assert watcher.post(f"{TYPES}pause/", {"task": "tests.sampleapp.tasks.add"}).status_code == 403
    assert "Pause" not in page(watcher, TYPES)


def test_a_blocked_task_says_what_it_waits_for(admin: Client, scene: Scene) -> None:
    inspector = Inspector(scene.broker)
    handle = add.delay(1, 2)
    inspector.pause_task(add.name)
    scene.worker().claim()
    text = page(admin, f"/admin/django_taskq/taskresult/{handle.id}/change/")
    assert "Its task is paused." in text
    assert f"manage.py taskq_queue resume --task {add.name}" in text
