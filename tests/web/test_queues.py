"""Queues: the list, the page of one, and what may be done to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.admin import purging
from django_taskq.broker.inspector import Inspector
from django_taskq.core.ids import id_to_str
from django_taskq.signals import operator_action
from tests.web.conftest import Allowed
from tests.web.scene import QUEUES, Scene, look_anew, page

pytestmark = pytest.mark.django_db


def url(name: str, queue: str = "default") -> str:
    return f"{QUEUES}{queue}/{name}/"


def row(client: Client, queue: str = "default") -> dict[str, Any]:
    [found] = [row for row in client.get(QUEUES).context["rows"] if row["name"] == queue]
    return found


def test_a_row_says_how_a_queue_is_doing(admin: Client, scene: Scene) -> None:
    scene.run(scene.worker())
    scene.shard.seed_waiting(1000, queue="default")
    scene.shard.seed_scheduled(3, delay=600_000)
    for minute in range(6):
        scene.past(minute, enqueued=60, succeeded=120)
    scene.depth(55, "default")
    found = row(admin)
    assert (found["ready"], found["running"], found["scheduled"], found["state"]) == ("1,000", "1", "3", "working")
    assert 60 <= int(found["entering"]) <= 72
    assert 120 <= int(found["leaving"]) <= 144
    assert found["clearing"] in {"14 min", "15 min", "16 min", "17 min"}
    assert found["spark"]
    assert found["oldest"] == "< 1 s"


def test_a_queue_that_grows_is_never_done(admin: Client, scene: Scene) -> None:
    scene.shard.seed_waiting(10)
    scene.past(1, enqueued=100, succeeded=50)
    assert row(admin)["clearing"] == "never"


def test_states(admin: Client, scene: Scene) -> None:
    assert row(admin)["state"] == "idle"
    look_anew(scene.broker)
    scene.shard.seed_waiting(1)
    assert row(admin)["state"] == "no worker"
    Inspector(scene.broker).pause("default")
    look_anew(scene.broker)
    assert row(admin)["state"] == "paused"
    scene.shard.seed_waiting(1, queue="forgotten")
    look_anew(scene.broker)
    assert row(admin, "forgotten")["state"] == "not declared"


def test_pause_and_resume(admin: Client, scene: Scene) -> None:
    told: list[tuple[str, str]] = []

    def listen(sender: str, target: str, **_: object) -> None:
        told.append((sender, target))

    operator_action.connect(listen)
    content = admin.post(url("pause"), {"from": "list"}, follow=True).content.decode()
    assert "The queue default is paused." in content
    assert url("resume") in content
    assert "The queue default is resumed." in admin.post(url("resume"), follow=True).content.decode()
    assert Inspector(scene.broker).queues(["default"])[0].paused is False
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["default", "default"]
    assert told == [("pause", "default"), ("resume", "default")]
    assert LogEntry.objects.all()[0].get_admin_url() == url("change")


def test_pausing_twice_is_one_action(admin: Client, scene: Scene) -> None:
    for _ in range(2):
        admin.post(url("pause"))
    assert LogEntry.objects.count() == 1


def test_purging_needs_the_queues_name(admin: Client, scene: Scene) -> None:
    scene.shard.seed_waiting(3)
    scene.shard.seed_scheduled(2)
    scene.shard.seed_waiting(1, queue="mail")
    content = page(admin, url("purge"))
    assert "This cancels 5 tasks of the queue <strong>default</strong> (3 ready, 2 scheduled, 0 blocked)." in content
    for wrong in ("", "Default", "mail"):
        content = admin.post(url("purge"), {"confirmation": wrong}).content.decode()
        assert "That is not the name of the queue. Nothing was changed." in content
    assert Inspector(scene.broker).queues(["default"])[0].ready == 3
    content = admin.post(url("purge"), {"confirmation": " default "}, follow=True).content.decode()
    assert "5 tasks of the queue default are cancelled." in content
    assert [queue.ready for queue in Inspector(scene.broker).queues(["default", "mail"])] == [0, 1]
    [entry] = LogEntry.objects.all()
    assert entry.change_message == "5 tasks of the queue default are cancelled."
    assert b"Nothing waited there." in admin.post(url("purge"), {"confirmation": "default"}, follow=True).content


def test_a_purge_that_takes_too_long_says_that_there_is_more(
    admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "AT_MOST", 0.0)
    scene.shard.seed_waiting(1200)
    response = admin.post(url("purge"), {"confirmation": "default"}, follow=True)
    done = re.search(r"(\d+) tasks of the queue default are cancelled", response.content.decode())
    assert done
    assert 0 < int(done[1]) < 1200
    assert b"There are more: purge again for the rest." in response.content
    assert response.redirect_chain[0][0] == url("purge")


def test_messages_are_listed_page_by_page(admin: Client, scene: Scene) -> None:
    scene.worker()
    sent = {id_to_str(id) for id in scene.shard.seed_waiting(60)}
    first = admin.get(url("change")).context
    second = admin.get(f"{url('change')}?{first['next_page']}").context
    listed = [row["id"] for context in (first, second) for row in context["rows"]]
    assert (len(first["rows"]), len(second["rows"]), second["next_page"]) == (50, 10, "")
    assert set(listed) == sent
    assert len(listed) == 60


def test_running_and_scheduled_messages(admin: Client, scene: Scene) -> None:
    running = scene.run(scene.worker("w-alpha"), task="shop.runs")
    scene.shard.seed_scheduled(1, delay=300_000, task="shop.later")
    content = page(admin, url("change"))
    assert running in content
    assert "w-alpha" in content
    assert "later" not in content
    content = page(admin, url("change"), scheduled="1")
    assert "shop.<wbr>later" in content
    assert "5 min" in content


@pytest.mark.parametrize("cursor", ["x", "0/1", "9" * 500, "\x00", "0/99999999999999999999999999-1", "-1/0-0"])
def test_a_strange_cursor_is_the_first_page(admin: Client, scene: Scene, cursor: str) -> None:
    scene.shard.seed_waiting(1)
    for scheduled in ("0", "1"):
        assert admin.get(url("change"), {"after": cursor, "scheduled": scheduled}).status_code == 200


def test_cancelling_what_waits_and_what_runs(admin: Client, scene: Scene) -> None:
    running = scene.run(scene.worker())
    [waiting] = [id_to_str(id) for id in scene.shard.seed_waiting(1)]
    assert b"1 task is cancelled." in admin.post(url("cancel"), {"task": waiting}, follow=True).content
    content = admin.post(url("cancel"), {"task": running}, follow=True).content.decode()
    assert "1 task runs and has been asked to end." in content
    assert "asked to end" in page(admin, url("change"))
    assert b"1 task had ended already." in admin.post(url("cancel"), {"task": waiting}, follow=True).content
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        f"Cancelled {waiting} of the queue default.",
        f"Cancelled {running} of the queue default.",
    ]


def test_a_message_that_cannot_be_read_is_listed(admin: Client, scene: Scene) -> None:
    scene.shard.seed_waiting(1)
    scene.shard.seed_bare("x", "y")
    content = page(admin, url("change"))
    assert "(cannot be read)" in content


def test_unknown_queues_and_ids(admin: Client, scene: Scene) -> None:
    for name in ("change", "purge"):
        assert admin.get(url(name, "none")).status_code == 404
    for name in ("pause", "resume", "cancel"):
        assert admin.post(url(name, "none")).status_code == 404
    assert admin.post(url("cancel"), {"task": "nonsense"}).status_code == 400


def test_buttons_need_their_permissions_and_posts(allowed: Allowed, scene: Scene) -> None:
    [id] = scene.shard.seed_waiting(1)
    reader = allowed("monitor")
    for content in (page(reader, QUEUES), page(reader, url("change"))):
        for name in ("pause", "purge", "cancel"):
            assert url(name) not in content
    assert reader.get(url("purge")).status_code == 403
    for name in ("pause", "resume", "cancel", "purge"):
        data = {"confirmation": "default", "task": id_to_str(id)}
        assert reader.post(url(name), data).status_code == 403, name
    assert allowed("pause").post(url("pause")).status_code == 403
    pauser = allowed("monitor", "pause")
    assert url("pause") in page(pauser, QUEUES)
    assert url("purge") not in page(pauser, QUEUES)
    assert pauser.get(url("pause")).status_code == 405
    assert Inspector(scene.broker).queues(["default"])[0].ready == 1
    assert not LogEntry.objects.exists()


def test_posts_need_a_token(admin: Client, scene: Scene) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    for name in ("pause", "resume", "cancel", "purge"):
        assert strict.post(url(name), {"confirmation": "default"}).status_code == 403
