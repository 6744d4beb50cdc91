"""Queues, workers, statistics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import django
import pytest
from django.contrib.admin.models import LogEntry
from django.utils.dateparse import parse_datetime

import django_taskq
from django_taskq.api import queues
from django_taskq.broker import Broker
from django_taskq.broker import inspector as inspector_module
from tests.api.conftest import Api, ready
from tests.api.tasks import echo, internal
from tests.broker.helpers import Hand, Shard
from tests.servers import wait_for
from tests.web.scene import Scene

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

pytestmark = pytest.mark.django_db


def test_a_queue_says_how_full_it_is(api: Api, hand: Hand) -> None:
    Shard(hand.shard.broker).seed_waiting(3)
    hand.claim(1)
    echo.using(priority=7, run_after=60).delay()
    shown = api.get("queues/default").body
    assert (shown["ready"], shown["running"], shown["scheduled"], shown["paused"]) == (2, 1, 1, False)
    assert shown["priorities"] == {"0": 2}
    for name in ("oldest_at", "next_due_at"):
        assert isinstance(parse_datetime(shown[name]), datetime)
    assert api.get("queues").body["items"] == [shown]


def test_queues_come_in_pages(api: Api, taskq_settings: SettingsWrapper) -> None:
    names = [f"q{number:02}" for number in range(25)]
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {name: {} for name in [*names, "default"]}}
    found, cursor = [], ""
    while cursor is not None:
        page = api.get(f"queues?limit=10&cursor={cursor}").body
        found += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == ["default", *names]


def test_limits_in_use_and_circuit_breakers(api: Api, hand: Hand) -> None:
    assert api.get("limits").body == {"items": []}
    assert api.get("breakers").body == {"items": [], "next_cursor": None}
    scene = Scene(hand.shard.broker)
    scene.limited(hand, "task:shop.sync:a", 3)
    scene.fail_breaker("crm")
    scene.fail_breaker("bank", failures=2)
    assert api.get("limits").body == {"items": [{"limit": "task:shop.sync:a", "holders": 1, "waiting": 2}]}
    bank, crm = api.get("breakers").body["items"]
    assert (bank["name"], bank["state"], bank["failures"], bank["tried_at"]) == ("bank", "closed", 1, None)
    assert (crm["name"], crm["state"], crm["probing"]) == ("crm", "open", False)
    assert isinstance(parse_datetime(crm["tried_at"]), datetime)


def test_a_queue_is_paused_and_resumed(api: Api, broker: Broker, hand: Hand) -> None:
    internal.delay(1)
    changes = [api.post(f"queues/default/{action}").body for action in ("pause", "pause", "resume", "resume")]
    assert [(change["paused"], change["changed"]) for change in changes] == [
        (True, True), (True, False), (False, True), (False, False),
    ]  # fmt: skip
    api.post("queues/default/pause")
    assert hand.claim() == []
    assert [entry.change_message.split(" (")[0] for entry in LogEntry.objects.order_by("pk")] == [
        "Paused.", "Resumed.", "Paused.",
    ]  # fmt: skip
    entry = LogEntry.objects.latest("pk")
    assert (entry.object_id, entry.object_repr, str(entry.content_type.name)) == ("default", "queue default", "queue")  # type: ignore[union-attr]


def test_a_purge_takes_so_many_at_a_time(api: Api, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "BATCHES", 2)
    monkeypatch.setattr(inspector_module, "PURGE_BATCH", 10)
    monkeypatch.setattr(inspector_module, "PURGE_FIRST", 10)
    echo.delay_many([((number,), {}) for number in range(25)])
    echo.using(run_after=60).delay_many([((number,), {}) for number in range(3)])
    answers = []
    while not answers or answers[-1]["more"]:
        answers.append(api.post("queues/default/purge").body)
    assert [answer["cancelled"] for answer in answers] == [20, 8]
    assert ready(broker) == 0
    assert LogEntry.objects.count() == 2
    assert api.post("queues/default/purge").body == {"queue": "default", "cancelled": 0, "more": False}


@pytest.mark.parametrize("queue", ["nowhere", "..", "%00", "x" * 300, "<script>"])
def test_a_queue_that_is_not_declared_is_not_found(api: Api, broker: Broker, queue: str) -> None:
    for answer in (api.get(f"queues/{queue}"), *(api.post(f"queues/{queue}/{do}") for do in ("pause", "purge"))):
        assert answer.status == 404
    assert not broker.connections.execute("EXISTS", broker.keys.paused)


def test_statistics_of_the_last_minutes(api: Api, hand: Hand) -> None:
    shard = Shard(hand.shard.broker)
    shard.seed_waiting(3)
    hand.settle_all(hand.claim(2))
    hand.settle_all(hand.claim(1), "failed")
    stats = api.get("stats").body
    assert len(stats["minutes"]) == 60
    total = stats["total"]
    assert (total["enqueued"], total["succeeded"], total["failed"]) == (3, 2, 1)
    assert sum(minute["counts"]["succeeded"] for minute in stats["minutes"]) == 2
    assert [(of["queue"], of["counts"]["failed"]) for of in stats["queues"]] == [("default", 1)]
    assert [(of["queue"], of["task"], of["counts"]["succeeded"]) for of in stats["tasks"]] == [("default", "t", 2)]
    day = api.get("stats?minutes=1440").body
    assert (len(day["minutes"]), day["queues"], day["tasks"]) == (1440, [], [])
    assert (day["total"]["enqueued"], day["total"]["succeeded"]) == (3, 2)


@pytest.mark.parametrize(("minutes", "given"), [("0", 1), ("-7", 1), ("5", 5), ("99999999999999999", 1440)])
def test_spans_are_clamped(api: Api, broker: Broker, minutes: str, given: int) -> None:
    assert len(api.get(f"stats?minutes={minutes}").body["minutes"]) == given


def test_no_worker(api: Api, broker: Broker) -> None:
    assert api.get("workers").body == {"items": [], "next_cursor": None}
    assert api.get("workers/nobody").code == "unknown_worker"


@pytest.mark.django_db(transaction=True)
def test_a_worker_says_what_it_is_and_does_what_it_is_told(caller: Callable[..., Api], worker: StartWorker) -> None:
    api = caller("monitor", "submit", "view_taskresult", "control")
    process = worker("--threads", "2", tasks=["tests.api.tasks"])
    sent = api.post("tasks", {"task": "tests.api.tasks.slowly", "args": [1.5]}).body
    wait_for(lambda: api.get(f"tasks/{sent['id']}").body["progress"], message="no beat told of the progress")
    [shown] = api.get("workers").body["items"]
    assert (shown["threads"], shown["queues"], shown["dead"]) == (2, ["default"], False)
    assert (shown["version"], shown["django"]) == (django_taskq.__version__, django.get_version())
    assert parse_datetime(shown["started_at"])
    [running] = shown["running"]
    assert (running["id"], running["task"]) == (sent["id"], "tests.api.tasks.slowly")
    assert running["progress"] == {"current": 1.0, "total": 4.0, "text": "looking"}

    path = f"workers/{shown['id']}"
    quieted = api.post(f"{path}/quiet")
    assert (quieted.status, quieted.body) == (202, {"id": shown["id"], "requested": "quiet"})
    wait_for(lambda: api.get(path).body["state"] == "quiet", message="it did not become quiet")
    assert api.post(f"{path}/stop").body["requested"] == "stop"
    wait_for(lambda: not api.get("workers").body["items"], message="it did not stop")
    assert api.post(f"{path}/stop").code == "unknown_worker"
    actions = [entry.change_message.split(" (")[0] for entry in LogEntry.objects.order_by("pk")]
    assert actions == ["Sent.", "Quieted.", "Stopped."]
    process.terminate()
