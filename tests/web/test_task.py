"""The page of one task, wherever it is: waiting, scheduled, held by a worker, ended, or on its way again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.broker import Broker, Submission
from django_taskq.broker.keys import index_field
from django_taskq.core.ids import new_id
from django_taskq.core.message import Attempt, Message
from django_taskq.core.states import State
from django_taskq.models import DeadTask, TaskResult
from django_taskq.requeue import requeue
from django_taskq.signals import task_cancelled
from tests.broker.helpers import Hand, Shard
from tests.records.outcomes import NOW, TRACEBACK, failed, settle, succeeded
from tests.sampleapp.tasks import add
from tests.servers import RedisServer, wait_for
from tests.web.conftest import Allowed, only_dead, only_result, record

if TYPE_CHECKING:
    from tests.conftest import StartWorker

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/taskresult/"


def page(id: Any, name: str = "change") -> str:
    return f"{LIST}{uuid.UUID(bytes=id) if isinstance(id, bytes) else id}/{name}/"


def read(client: Client, id: Any) -> str:
    response = client.get(page(id))
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def send(broker: Broker, queue: str = "default", delay: int | None = None, **values: Any) -> bytes:
    message = Message(new_id(), "shop.send", b"[7]", b'{"password":"hunter2"}', **values)
    broker.enqueue([Submission(message, queue, delay=delay)])
    return message.id


# --- where it may be --------------------------------------------------------------------------------------------------


def test_a_waiting_task_says_why_it_waits(admin: Client, broker: Broker) -> None:
    id = send(broker, priority=3)
    content = read(admin, id)
    assert "shop.send" in content
    assert "queued</span>" in content
    assert "No worker serves its queue." in content
    assert "manage.py taskq_worker --queues default" in content
    assert "hunter2" not in content
    assert "[redacted]" in content
    assert "/history/" not in content  # of a row that does not exist
    broker.connections.execute("SADD", broker.keys.paused, "default")
    assert "manage.py taskq_queue resume default" in read(admin, id)


def test_a_scheduled_task_says_when_it_is_due(admin: Client, broker: Broker) -> None:
    earlier = Attempt(1, NOW, NOW + 2, "host:1:abcd", "failed", "builtins.OSError", "first", TRACEBACK)
    content = read(admin, send(broker, delay=3_600_000, attempt=1, history=[earlier]))
    assert "scheduled</span>" in content
    assert "<dt>Due</dt>" in content
    assert "Attempt 1" in content
    assert "builtins.OSError" in content


def test_a_running_task_names_its_worker(admin: Client, broker: Broker) -> None:
    id = send(broker)
    hand = Hand(Shard(broker), "w1")
    hand.claim()
    content = read(admin, id)
    hand.connection.disconnect()
    assert "running</span>" in content
    assert "<dt>Worker</dt><dd>w1</dd>" in content


@pytest.mark.django_db(transaction=True)
def test_a_running_task_shows_its_attempt_and_how_far_it_is(worker: StartWorker, admin: Client, tmp_path: Any) -> None:
    from tests.worker.tasks import reports

    process = worker(tasks=["tests.worker.tasks"])
    handle = reports.delay(str(tmp_path / "ledger"), str(tmp_path / "gate"), 30, 100, "<b>resizing</b>")
    content = wait_for(lambda: (text := read(admin, handle.id)) and "30&nbsp;%" in text and text, 10, process.output)
    assert 'max="100" value="30"' in content
    assert "&lt;b&gt;resizing&lt;/b&gt;" in content
    assert "Attempt 1" in content
    assert 'id="tq-refresh"' in content
    (tmp_path / "gate").touch()
    handle.get(timeout=5)


def test_what_has_ended_shows_before_it_is_recorded(admin: Client, broker: Broker) -> None:
    outcome = succeeded(result=b'{"sent":2}')
    settle(broker, outcome)
    content = read(admin, outcome.id)
    assert "succeeded</span>" in content
    assert "&quot;sent&quot;: 2" in content
    assert not TaskResult.objects.exists()


def test_a_later_run_on_its_way_shows_instead_of_the_recorded_one(admin: Client, broker: Broker) -> None:
    record(failed())
    dead = only_dead()
    requeue(dead)
    content = read(admin, dead.task_id)
    assert "queued</span>" in content
    assert "<dt>Run</dt><dd>2</dd>" in content
    assert "Run 1 had failed and was requeued." in content
    assert f"/deadtask/{dead.pk}/change/" in content
    content = " ".join(admin.get(f"/admin/django_taskq/deadtask/{dead.pk}/change/").content.decode().split())
    assert "Run 2 has been sent:" in content
    assert page(dead.task_id) in content


def test_a_crash_between_redis_and_the_row_leaves_no_button_to_press_again(admin: Client, broker: Broker) -> None:
    record(failed())
    dead = only_dead()
    requeue(dead)
    DeadTask.objects.update(state="dead", closed_at=None)  # as if the row had not been written
    content = admin.get(f"/admin/django_taskq/deadtask/{dead.pk}/change/").content.decode()
    assert "has been sent" in content
    assert f"/deadtask/{dead.pk}/requeue/" not in content


def test_nobody_knows_it(admin: Client, broker: Broker) -> None:
    response = admin.get(page(uuid.uuid4()), follow=True)
    assert response.redirect_chain
    assert b"neither in the database nor in Redis" in response.content


def test_while_redis_is_away_the_record_shows(admin: Client, broker: Broker, redis_server: RedisServer) -> None:
    record(succeeded())
    redis_server.kill()
    content = read(admin, only_result().pk)
    assert "Redis cannot be asked" in content
    assert "shop.send" in content


def test_a_message_that_cannot_be_read_has_a_page(admin: Client, broker: Broker) -> None:
    id = new_id()
    entry = broker.connections.execute("XADD", broker.keys.lane("default", 0), "*", "i", id, "t", "x", "n", "nonsense")
    broker.connections.execute("HSET", broker.keys.index, index_field(id), entry)
    content = read(admin, id)
    assert "(unknown)" in content
    assert "queued</span>" in content


def test_it_needs_the_permission_to_view_results(allowed: Allowed, broker: Broker) -> None:
    id = send(broker)
    assert allowed().get(page(id)).status_code == 403
    content = read(allowed("view_taskresult"), id)
    assert "may not see arguments" in content
    assert "/cancel/" not in content
    assert "As Python" not in content


def test_its_page_costs_few_queries(admin: Client, broker: Broker, django_assert_max_num_queries: Any) -> None:
    record(failed())
    read(admin, only_result().pk)
    with django_assert_max_num_queries(8):  # one of them for the outbox, where any task goes through it
        read(admin, only_result().pk)


# --- cancel -----------------------------------------------------------------------------------------------------------


def cancel(client: Client, id: bytes) -> str:
    return client.post(page(id, "cancel"), follow=True).content.decode()


def test_what_waits_is_cancelled(admin: Client, broker: Broker) -> None:
    id = send(broker)
    assert f'action="{page(id, "cancel")}"' in read(admin, id)
    content = cancel(admin, id)
    assert "Cancelled." in content
    assert "cancelled</span>" in content
    assert broker.find([id])[0].state is State.CANCELLED
    assert "It had ended before" in cancel(admin, id)
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Cancelled."]


def test_whichever_button_cancels_it_listeners_are_told(admin: Client, broker: Broker) -> None:
    ids = [str(uuid.UUID(bytes=send(broker))) for _ in range(3)]
    told: list[tuple[str, str]] = []

    def note(task_id: str, reason: str, **_: Any) -> None:
        told.append((task_id, reason))

    task_cancelled.connect(note)
    try:
        admin.post(page(ids[0], "cancel"))
        admin.post("/admin/django_taskq/queue/default/cancel/", {"task": ids[1]})
        admin.post(f"/admin/django_taskq/worker/task/{ids[2]}/cancel/")
    finally:
        task_cancelled.disconnect(note)
    assert told == [(ids[0], "cancelled"), (ids[1], "cancelled by admin"), (ids[2], "cancelled by admin")]


def test_what_runs_is_asked_and_the_page_says_whether_it_took(admin: Client, broker: Broker) -> None:
    id = send(broker)
    shard = Shard(broker)
    hand = Hand(shard, "w1")
    [delivery] = hand.claim()
    assert "has been asked to end it" in cancel(admin, id)
    content = read(admin, id)
    assert "It was asked to end, and has not yet." in content
    assert page(id, "cancel") not in content
    hand.complete(delivery, "cancelled")
    hand.connection.disconnect()
    assert "cancelled</span>" in read(admin, id)


def test_a_cancel_that_did_not_take_is_told(admin: Client, broker: Broker) -> None:
    id = send(broker)
    hand = Hand(Shard(broker), "w1")
    hand.claim()
    cancel(admin, id)
    hand.connection.disconnect()
    found = broker.find([id])[0]
    sent = int(found.location.partition(b"-")[0]) / 1000
    record(succeeded(id=id, enqueued=sent, first_started=sent, started=sent, finished=sent + 60))
    broker.connections.execute("FLUSHDB")
    assert "Cancelling did not take" in read(admin, id)


def test_cancelling_needs_its_permission_and_a_post_with_a_token(
    admin: Client, allowed: Allowed, broker: Broker
) -> None:
    id = send(broker)
    assert allowed("view_taskresult").post(page(id, "cancel")).status_code == 403
    assert allowed("cancel").post(page(id, "cancel")).status_code == 403
    assert admin.get(page(id, "cancel")).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    assert strict.post(page(id, "cancel")).status_code == 403
    assert broker.find([id])[0].state is State.QUEUED
    assert "Cancelled." in cancel(allowed("view_taskresult", "cancel"), id)


def test_nothing_is_cancelled_that_nobody_knows(admin: Client, broker: Broker) -> None:
    for id in (uuid.uuid4(), "nonsense"):
        assert "does not exist" in admin.post(page(id, "cancel"), follow=True).content.decode()
    assert not LogEntry.objects.exists()


def test_while_redis_is_away_nothing_is_cancelled(admin: Client, broker: Broker, redis_server: RedisServer) -> None:
    record(failed())
    redis_server.kill()
    assert "cannot be reached" in admin.post(page(only_result().pk, "cancel"), follow=True).content.decode()
    assert not LogEntry.objects.exists()


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_the_frames_of_the_application_come_first(admin: Client) -> None:
    record(failed())
    content = read(admin, only_result().pk)
    own, whole = content.index("/srv/releases/41/shop/mail.py:12"), content.index("Whole traceback")
    assert own < whole
    assert "connection.send(message)" in content[own:whole]
    assert "smtplib.py" not in content[own:whole]


def test_the_buttons_of_its_dead_letter_are_here_too(admin: Client, allowed: Allowed, broker: Broker) -> None:
    record(failed())
    dead, url = only_dead(), page(only_result().pk)
    content = admin.get(url).content.decode()
    for name in ("requeue", "discard", "edit"):
        assert f"/deadtask/{dead.pk}/{name}/" in content
    assert "/deadtask/" not in allowed("view_taskresult", "requeue", "discard").get(url).content.decode()
    response = admin.post(f"/admin/django_taskq/deadtask/{dead.pk}/requeue/", {"next": url})
    assert response.headers["Location"] == url
    content = read(admin, only_result().pk)
    assert "What people did" in content
    assert "Requeued." in content


def test_nobody_is_sent_to_another_site(admin: Client, broker: Broker) -> None:
    record(failed())
    for there in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        response = admin.post(f"/admin/django_taskq/deadtask/{only_dead().pk}/discard/", {"next": there})
        assert response.headers["Location"] == f"/admin/django_taskq/deadtask/{only_dead().pk}/change/"


def test_it_can_be_copied_as_python(admin: Client) -> None:
    record(succeeded(task=add.name, args=b"[1]", kwargs=b'{"b":2}'))
    content = read(admin, only_result().pk)
    assert "from tests.sampleapp.tasks import add add.delay(1, b=2)</pre>" in content


def test_hostile_texts_of_a_waiting_task_are_text(admin: Client, broker: Broker) -> None:
    hostile = "<script>alert(1)</script>"
    json = b'{"a":"<script>alert(1)</script>"}'
    message = Message(
        new_id(), hostile, b"[]", json, history=[Attempt(1, 1.0, 2.0, hostile, hostile, hostile, hostile)]
    )
    broker.enqueue([Submission(message, hostile)])
    content = read(admin, message.id)
    assert "<script>alert" not in content
    assert "&lt;script&gt;alert(1)" in content
