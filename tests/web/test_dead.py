"""The list of dead letters, the page of one, and the buttons."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.broker import Broker
from django_taskq.core.states import State
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import failed, succeeded
from tests.servers import RedisServer
from tests.web.conftest import Allowed, only_dead, record

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/deadtask/"


def page(row: DeadTask, name: str = "change") -> str:
    return f"{LIST}{row.pk}/{name}/"


def listed(client: Client, **query: str) -> int:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return len(response.context["cl"].result_list)


def act(client: Client, action: str, rows: list[DeadTask], **more: object) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return client.post(LIST, data, follow=True).content.decode()


def test_the_list_shows_the_dead_and_on_demand_the_others(admin: Client) -> None:
    record(failed(), failed(task="shop.other", reason="worker_lost", error_class="", traceback=""), failed())
    last = DeadTask.objects.order_by("pk").last()
    assert last is not None
    DeadTask.objects.filter(pk=last.pk).update(state="discarded")
    assert (listed(admin), listed(admin, state="discarded"), listed(admin, state="all")) == (2, 1, 3)
    assert listed(admin, reason="worker_lost") == listed(admin, task="shop.other") == 1
    assert listed(admin, q=str(last.task_id)) == 1
    content = admin.get(LIST).content.decode()
    assert "SMTPServerDisconnected" in content
    assert "worker lost" in content


def test_the_page_leads_to_failures_of_the_same_kind(admin: Client) -> None:
    record(failed(), failed(), failed(task="shop.other", error_class="builtins.KeyError"))
    first = DeadTask.objects.filter(task="shop.send").first()
    assert first is not None
    content = admin.get(page(first)).content.decode()
    assert "1 more dead letter of this kind" in content
    assert listed(admin, fingerprint=first.fingerprint) == 2
    assert listed(admin, fingerprint="nonsense") == 3


def test_the_raw_message_is_never_shown(admin: Client) -> None:
    record(failed(raw=b"a raw s3cret", kwargs=b'{"password":"hunter2"}'))
    content = admin.get(page(only_dead())).content
    assert b"s3cret" not in content
    assert b"hunter2" not in content
    assert b"[redacted]" in content


def test_requeue_sends_the_task_once_and_is_logged(admin: Client, broker: Broker) -> None:
    record(failed())
    dead = only_dead()
    response = admin.post(page(dead, "requeue"), follow=True)
    assert b"1 dead letter requeued." in response.content
    assert b"had been requeued before" in admin.post(page(dead, "requeue"), follow=True).content
    assert only_dead().state == "requeued"
    [found] = broker.find([dead.task_id.bytes])
    assert found.state is State.QUEUED
    assert found.message is not None
    assert found.message.run == 2
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message, entry.get_edited_object()) == (str(dead.pk), "Requeued.", dead)


def test_many_are_requeued_with_counts_and_one_log_entry(admin: Client, broker: Broker) -> None:
    record(*[failed() for _ in range(3)], failed(raw=b"", reason="malformed"))
    content = act(admin, "requeue_selected", list(DeadTask.objects.all()))
    assert "3 dead letters requeued." in content
    assert "1 was refused: Its message is malformed" in content
    assert [entry.object_repr for entry in LogEntry.objects.all()] == ["3 dead letters"]
    assert int(broker.connections.execute("XLEN", broker.keys.lane("default", 0))) == 3


def test_all_that_match_are_confirmed_first(admin: Client, broker: Broker) -> None:
    record(*[failed() for _ in range(3)], failed(task="shop.other"))
    response = admin.post(
        f"{LIST}?task=shop.send",
        {"action": "requeue_selected", "_selected_action": [DeadTask.objects.all()[0].pk], "select_across": 1},
    )
    assert response.headers["Location"] == f"{LIST}bulk/requeue/?task=shop.send"
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"dead"}


def test_while_redis_is_away_nothing_is_marked(
    admin: Client, broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.2)
    record(failed(), failed())
    redis_server.kill()
    assert "Stopped: Redis at" in act(admin, "requeue_selected", list(DeadTask.objects.all()))
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"dead"}
    assert not LogEntry.objects.exists()


def test_discard_marks_and_is_logged(admin: Client) -> None:
    record(failed(), failed(), failed())
    first, *others = DeadTask.objects.order_by("pk")
    assert b"1 dead letter discarded." in admin.post(page(first, "discard"), follow=True).content
    assert b"Nothing to discard" in admin.post(page(first, "discard"), follow=True).content
    assert "2 dead letters discarded." in act(admin, "discard_selected", others)
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"discarded"}
    assert [entry.object_repr for entry in LogEntry.objects.order_by("pk")] == [str(first), "2 dead letters"]


def test_what_is_dealt_with_has_no_buttons(admin: Client) -> None:
    record(failed())
    assert page(only_dead(), "requeue").encode() in admin.get(page(only_dead())).content
    DeadTask.objects.update(state="discarded")
    content = admin.get(page(only_dead())).content
    assert page(only_dead(), "requeue").encode() not in content
    assert page(only_dead(), "discard").encode() not in content


def test_requeue_and_discard_need_their_own_permissions(allowed: Allowed, broker: Broker) -> None:
    record(failed())
    dead = only_dead()
    reader, requeuer = allowed("view_deadtask"), allowed("view_deadtask", "requeue")
    content = reader.get(page(dead)).content.decode()
    assert "/requeue/" not in content
    assert "/discard/" not in content
    assert "requeue_selected" not in reader.get(LIST).content.decode()
    for name in ("requeue", "discard"):
        assert reader.post(page(dead, name)).status_code == 403
        act(reader, f"{name}_selected", [dead])
    assert only_dead().state == "dead"
    assert requeuer.post(page(dead, "discard")).status_code == 403
    assert allowed("requeue", "discard").post(page(dead, "requeue")).status_code == 403
    assert requeuer.post(page(dead, "requeue"), follow=True).status_code == 200
    assert only_dead().state == "requeued"


def test_the_buttons_take_posts_with_a_token_only(admin: Client) -> None:
    record(failed())
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    for name in ("requeue", "discard"):
        assert admin.get(page(only_dead(), name)).status_code == 405
        assert strict.post(page(only_dead(), name)).status_code == 403
    assert only_dead().state == "dead"


def test_a_dead_letter_that_is_gone_leads_back_to_the_list(admin: Client) -> None:
    for pk in ("1", "nonsense", "9" * 40):
        for name in ("change", "requeue", "discard"):
            call = admin.get if name == "change" else admin.post
            response = call(f"{LIST}{pk}/{name}/", follow=True)
            assert response.redirect_chain
            assert b"does not exist" in response.content


def test_a_result_and_its_dead_letters_lead_to_each_other(admin: Client) -> None:
    record(failed())
    dead = only_dead()
    result = TaskResult.objects.get()
    assert page(dead) in admin.get(f"/admin/django_taskq/taskresult/{result.pk}/change/").content.decode()
    record(succeeded(id=dead.task_id.bytes, run=2))
    assert "Run 2 has ended since: succeeded." in admin.get(page(dead)).content.decode()
