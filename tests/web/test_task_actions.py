"""Actions of a project's own admin pages that send tasks for selected rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.http import HttpRequest
from django.test import RequestFactory

from django_taskq.admin import TaskAction, TaskActionMixin
from django_taskq.models import Overview
from django_taskq.signals import operator_action
from django_taskq.testing import assert_enqueued, assert_not_enqueued, override_taskq
from tests.records.outcomes import succeeded
from tests.tasks import rows
from tests.testing import tasks
from tests.web.conftest import record

pytestmark = pytest.mark.django_db
GREET, REMIND, LATER = (
    "taskq_tests.tasks.rows.greet",
    "taskq_tests.testing.tasks.remind",
    "taskq_tests.testing.tasks.later",
)


class UserPage(TaskActionMixin, ModelAdmin):  # type: ignore[type-arg]
    task_actions = [
        rows.greet,
        TaskAction(
            tasks.remind.using(priority=7),
            "remind them",
            permissions=("view",),
            call=lambda user: ((user.email,), {"polite": False}),
        ),
        TaskAction(tasks.later, permissions=("delete",)),
    ]


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    with override_taskq(MODE="collect"):
        yield


def asked_by(*codenames: str) -> HttpRequest:
    request = RequestFactory().post("/")
    request.user = User.objects.create_user("boss", is_staff=True)
    request.user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    request.session = {}  # type: ignore[assignment]
    request._messages = FallbackStorage(request)  # type: ignore[attr-defined]
    return request


def act(request: HttpRequest, name: str, **chosen: Any) -> list[str]:
    page = UserPage(User, AdminSite())
    function, _, _ = page.get_actions(request)[name]  # type: ignore[misc]
    function(page, request, User.objects.filter(**chosen))
    return [str(message) for message in get_messages(request)]


def test_each_user_sees_what_they_may_send() -> None:
    request = asked_by("view_user")
    actions = UserPage(User, AdminSite()).get_actions(request)
    assert [name for name in actions if name.startswith("taskq")] == [REMIND]
    assert actions[REMIND][2] == "Remind them"  # type: ignore[index]
    request.user = User.objects.create_superuser("root")
    actions = UserPage(User, AdminSite()).get_actions(request)
    assert {GREET, REMIND, LATER} < set(actions)
    assert actions[GREET][2] == "Run tests.tasks.rows.greet for selected rows"  # type: ignore[index]
    popup = RequestFactory().get("/?_popup=1")
    popup.user = request.user
    assert not [name for name in UserPage(User, AdminSite()).get_actions(popup) if name.startswith("taskq")]


def test_a_task_for_a_row_is_given_the_row() -> None:
    request, seen = asked_by("change_user"), []
    ada = User.objects.create(username="ada")
    operator_action.connect(hear := lambda sender, **fields: seen.append((sender, fields["target"], fields["count"])))
    try:
        assert act(request, GREET, username="ada") == ["1 task sent: tests.tasks.rows.greet."]
    finally:
        operator_action.disconnect(hear)
    assert_enqueued(rows.greet, args=(ada,), count=1)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(ada.pk), "Sent tests.tasks.rows.greet.")
    assert seen == [("submit", "tests.tasks.rows.greet", 1)]


def test_arguments_and_options_of_ones_own() -> None:
    request = asked_by("view_user")
    User.objects.create(username="ada", email="ada@example.com")
    assert act(request, REMIND) == ["2 tasks sent: tests.testing.tasks.remind."]
    assert_enqueued(tasks.remind, args=("ada@example.com",), kwargs={"polite": False}, priority=7, count=1)
    assert LogEntry.objects.get().object_repr == "2 users"


def test_other_tasks_are_given_the_key() -> None:
    request = asked_by("delete_user")
    act(request, LATER)
    assert_enqueued(tasks.later, args=(request.user.pk,), count=1)


def test_a_page_of_a_proxy_finds_it_in_its_own_history() -> None:
    request = asked_by("view_user")

    class ProxyPage(TaskActionMixin, ModelAdmin):  # type: ignore[type-arg]
        task_actions = ()

    record(succeeded())
    action = TaskAction(tasks.later, call=lambda row: ((1,), {}))
    ProxyPage(Overview, AdminSite()).send_for_rows(request, action, Overview.objects.all())
    entry = LogEntry.objects.get()
    assert (entry.content_type.model, entry.object_id) == ("overview", str(Overview.objects.get().pk))  # type: ignore[union-attr]


def test_what_cannot_be_sent_is_said() -> None:
    with override_taskq(MODE="collect", MAX_PAYLOAD_BYTES=1):
        (message,) = act(asked_by("change_user"), GREET)
        assert_not_enqueued()
    assert message.startswith("tests.tasks.rows.greet was not sent: ")
    assert not LogEntry.objects.exists()
