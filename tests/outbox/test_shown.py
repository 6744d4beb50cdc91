"""What operators see of the outbox."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client

from django_taskq import get_task, outbox
from django_taskq.admin.shared import forget
from django_taskq.broker import Broker
from django_taskq.models import OutboxEntry
from django_taskq.relay import Relay
from django_taskq.signals import task_cancelled
from tests.commands.conftest import run
from tests.outbox.conftest import age
from tests.outbox.tasks import add, note

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


def refuse(handle: Any) -> None:
    OutboxEntry.objects.filter(task_id=handle.id).update(state="refused", error="not this one")


def test_the_status_says_what_waits_and_what_was_refused(outbox_broker: Broker) -> None:
    assert "outbox" not in run("taskq_status").out
    handles = [add.delay(number) for number in range(3)]
    refuse(handles[0])
    age(120)
    text = run("taskq_status").out
    assert "2 tasks wait in the outbox of 'default', for 2 min." in text
    assert "1 tasks in the outbox of 'default' were refused" in text
    [found] = run("taskq_status", "--json").json["outboxes"]
    assert (found["database"], found["waiting"], found["refused"]) == ("default", 2, 1)
    assert found["oldest"] == pytest.approx(120, abs=3)


def test_without_the_database_the_rest_is_said(outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(alias: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(outbox, "_backlog", away)
    assert run("taskq_status", "--json").json["outboxes"] == []


def test_a_project_without_it_pays_no_query(
    outbox_broker: Broker, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "all_tasks", list)
    with django_assert_num_queries(0):
        assert outbox.backlogs() == []


# --- the admin --------------------------------------------------------------------------------------------------------

LIST = "/admin/django_taskq/outboxentry/"


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """A client of a member of staff with these permissions of django_taskq."""

    def sign_in(*codenames: str) -> Client:
        user = User.objects.create_user("-".join(codenames), is_staff=True)
        mine = Permission.objects.filter(content_type__app_label="django_taskq", codename__in=codenames)
        user.user_permissions.set(mine)
        client = Client()
        client.force_login(user)
        return client

    return sign_in


def act(client: Client, action: str, *handles: Any) -> Any:
    keys = OutboxEntry.objects.filter(task_id__in=[handle.id for handle in handles]).values_list("pk", flat=True)
    return client.post(LIST, {"action": action, "_selected_action": list(keys)}, follow=True)


def test_the_list_and_the_page_of_an_entry(outbox_broker: Broker, admin_client: Client) -> None:
    good, bad = add.using(priority=1).delay(1), note.delay("/tmp", "<script>")
    refuse(bad)
    content = admin_client.get(LIST).content.decode()
    assert "not this one" in content
    assert admin_client.get(LIST, {"state": "refused"}).context["cl"].result_count == 1
    assert admin_client.get(LIST, {"q": good.id}).context["cl"].result_count == 1
    assert "This is not the full id" in admin_client.get(LIST, {"q": "1"}).content.decode()
    page = admin_client.get(f"{LIST}{OutboxEntry.objects.get(task_id=bad.id).pk}/change/").content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>&quot;" not in page
    assert admin_client.post(f"{LIST}{OutboxEntry.objects.get(task_id=bad.id).pk}/delete/").status_code == 403


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_time_of_an_entry_is_right_in_every_time_zone(
    outbox_broker: Broker, admin_client: Client, settings: SettingsWrapper, use_tz: bool
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "Asia/Tokyo", use_tz
    add.delay(1)
    for address in (LIST, f"{LIST}{OutboxEntry.objects.get().pk}/change/"):
        [shown] = re.findall(r'<time class="tq-time" datetime="([^"]+)"', admin_client.get(address).content.decode())
        assert abs(dt.datetime.fromisoformat(shown) - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)


def test_arguments_need_their_permission(outbox_broker: Broker, staff: Callable[..., Client]) -> None:
    note.delay("/tmp", "hush")
    address = f"{LIST}{OutboxEntry.objects.get().pk}/change/"
    assert "hush" not in staff("view_outboxentry").get(address).content.decode()
    assert "hush" in staff("view_outboxentry", "view_arguments").get(address).content.decode()
    assert staff("view_taskresult").get(address).status_code == 403


def test_what_was_refused_is_sent_again(outbox_broker: Broker, relay: Relay, admin_client: Client) -> None:
    handle, other = add.delay(1), add.delay(2)
    refuse(handle)
    assert "1 entry will be sent again." in act(admin_client, "send_selected", handle, other).content.decode()
    [entry] = LogEntry.objects.all()
    assert entry.change_message == "Sent again."
    assert relay.run_once() == 2


def test_entries_are_cancelled(outbox_broker: Broker, relay: Relay, admin_client: Client) -> None:
    handles = [add.delay(number) for number in range(3)]
    refuse(handles[0])
    OutboxEntry.objects.filter(task_id=handles[0].id).update(call=b"broken")
    told: list[str] = []

    def listener(task_id: str, **_: Any) -> None:
        told.append(task_id)

    task_cancelled.connect(listener)
    try:
        assert "2 tasks cancelled." in act(admin_client, "cancel_selected", *handles[:2]).content.decode()
    finally:
        task_cancelled.disconnect(listener)
    assert told == [handle.id for handle in handles[:2]]
    assert [get_task(handle.id).status for handle in handles] == ["cancelled", "cancelled", "queued"]
    assert LogEntry.objects.get().change_message == "Cancelled."


def test_the_page_of_a_task_cancels_it_in_the_outbox(outbox_broker: Broker, relay: Relay, admin_client: Client) -> None:
    handle = add.delay(1)
    answer = admin_client.post(f"/admin/django_taskq/taskresult/{handle.id}/cancel/", follow=True)
    assert "Cancelled." in answer.content.decode()
    assert get_task(handle.id).status == "cancelled"
    assert relay.run_once() == 0


def test_actions_need_their_permissions(outbox_broker: Broker, staff: Callable[..., Client]) -> None:
    handle = add.delay(1)
    refuse(handle)
    client = staff("view_outboxentry")
    assert "send_selected" not in client.get(LIST).content.decode()
    for action in ("send_selected", "cancel_selected"):
        act(client, action, handle)
    assert OutboxEntry.objects.get().state == "refused"


def test_the_page_of_a_task_knows_it_from_the_outbox(outbox_broker: Broker, admin_client: Client) -> None:
    handle = add.using(run_after=3600).delay(1)
    page = admin_client.get(f"/admin/django_taskq/taskresult/{handle.id}/change/").content.decode()
    assert "It is in the outbox." in page
    refuse(handle)
    page = admin_client.get(f"/admin/django_taskq/taskresult/{handle.id}/change/").content.decode()
    assert "Redis refused it, and it stays in the outbox: not this one" in page


def test_the_overview_says_what_is_wrong(outbox_broker: Broker, admin_client: Client) -> None:
    handles = [add.delay(number) for number in range(3)]
    overview = "/admin/django_taskq/overview/"
    assert "The outbox of default" not in admin_client.get(overview).content.decode()
    refuse(handles[0])
    age(180)
    forget(outbox_broker, "outboxes")
    content = admin_client.get(overview).content.decode()
    assert "The outbox of default is behind (calls: 2); the oldest has waited for 3 min." in content
    assert "Redis refused 1 calls in the outbox of default." in content
    assert f'href="{LIST}"' in content


def test_it_has_a_tab_where_it_is_in_use(
    outbox_broker: Broker, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tabs() -> str:
        content = admin_client.get("/admin/django_taskq/taskresult/").content.decode()
        return content[content.index('class="tq-tabs"') : content.index("</nav>", content.index('class="tq-tabs"'))]

    assert LIST in tabs()
    monkeypatch.setattr(outbox, "in_use", bool)
    assert LIST not in tabs()


def test_the_api_knows_it(outbox_broker: Broker, admin_client: Client) -> None:
    handle = add.delay(1)
    found = admin_client.get(f"/taskq/tasks/{handle.id}").json()
    assert (found["state"], found["task"], found["args"]) == ("queued", add.name, [1])
