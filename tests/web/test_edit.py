"""Arguments of a dead letter edited and requeued: checked as the task checks them, secrets untouched and unseen."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.admin import arguments as module
from django_taskq.admin.arguments import Unusable, editable, edited
from django_taskq.broker import Broker
from django_taskq.core.fields import pack_fields
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.models import DeadTask
from django_taskq.requeue import requeue
from tests.records.outcomes import failed
from tests.sampleapp.tasks import add, fail, sleep
from tests.web.conftest import Allowed, only_dead, record

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/deadtask/"


def bury(task: str = add.name, args: bytes = b"[1,2]", kwargs: bytes = b"{}", **values: Any) -> DeadTask:
    id = new_id()
    message = Message(id, task, args, kwargs)
    record(failed(id=id, task=task, args=args, kwargs=kwargs, raw=pack_fields(message.fields()), **values))
    return DeadTask.objects.get(
        task_id__in=[only.task_id for only in DeadTask.objects.all() if only.task_id.bytes == id]
    )


def url(dead: DeadTask) -> str:
    return f"{LIST}{dead.pk}/edit/"


def form(client: Client, dead: DeadTask) -> dict[str, str]:
    """The texts of the form, as a browser reads them."""
    content = client.get(url(dead)).content.decode()
    found = re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>\n(.*?)</textarea>', content, re.DOTALL)
    return {name: html.unescape(text) for name, text in found}


def sent(broker: Broker, dead: DeadTask) -> Message | None:
    return broker.find([dead.task_id.bytes])[0].message


def test_edited_arguments_are_sent_as_the_next_run_of_the_same_task(admin: Client, broker: Broker) -> None:
    dead = bury()
    assert form(admin, dead) == {"args": "[\n  1,\n  2\n]", "kwargs": "{}"}
    response = admin.post(url(dead), {"args": "[1]\r\n", "kwargs": '{"b": 40}'}, follow=True)
    content = " ".join(response.content.decode().split())
    assert "Requeued as run 2 with edited arguments." in content
    assert "Its arguments were edited" in content  # the page of the task, which leads to the dead letter
    assert f"{LIST}{dead.pk}/change/" in content
    message = sent(broker, dead)
    assert message is not None
    assert (message.task, message.run, message.args, message.kwargs) == (add.name, 2, b"[1]", b'{"b":40}')
    content = admin.get(f"{LIST}{dead.pk}/change/").content.decode()
    assert "It was given other arguments than these." in content
    assert f"/taskresult/{dead.task_id}/change/" in content
    assert [entry.change_message for entry in LogEntry.objects.all()] == [
        "Requeued as run 2 with edited arguments."
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ("[1", "{}", "Line 1, column 3"),
        ("{}", "{}", "must be a JSON array"),
        ("[1,2]", "[]", "must be a JSON object"),
        ("[1,NaN]", "{}", "This is not JSON"),
        ("[1]", "{}", "missing a required argument"),
        ('[1,"two"]', "{}", "b: Expected `int`, got `str`"),
        ("[1,2]", '{"c":1}', "unexpected keyword argument"),
        ("[" * 10_000, "{}", "not JSON"),
        ('["\\ud800",1]', "{}", "cannot be sent as JSON"),
    ],
)
def test_what_the_task_would_not_take_is_not_sent(
    admin: Client, broker: Broker, args: str, kwargs: str, problem: str
) -> None:
    dead = bury()
    response = admin.post(url(dead), {"args": args, "kwargs": kwargs})
    assert response.status_code == 422
    assert problem in html.unescape(response.content.decode())
    assert html.escape(args) in response.content.decode()  # what was typed is not lost
    assert sent(broker, dead) is None
    assert only_dead().state == "dead"


def test_a_task_that_is_not_known_here_cannot_be_checked(admin: Client, broker: Broker) -> None:
    response = admin.post(url(bury("shop.gone")), {"args": "[]", "kwargs": "{}"})
    assert b"not known to this process" in response.content
    assert only_dead().state == "dead"


def test_too_much_is_refused(admin: Client, broker: Broker, settings: Any) -> None:
    settings.TASKQ = {**settings.TASKQ, "MAX_PAYLOAD_BYTES": 1024}
    dead = bury(fail.name, b"[]", b'{"message":"x"}')
    response = admin.post(url(dead), {"args": "[]", "kwargs": f'{{"message":"{"x" * 2000}"}}'})
    assert b"1024 are allowed" in response.content


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = b'{"user":"ada","password":"hunter2","cards":[{"card":"4111"},{"card":"5500","token":{"a":1}}]}'


def stored() -> Message:
    return Message(new_id(), sleep.name, b"[1.0]", SECRET)


def test_secrets_are_not_shown(admin: Client) -> None:
    content = admin.get(url(bury(fail.name, b"[]", SECRET))).content
    for secret in (b"hunter2", b"4111", b"5500"):
        assert secret not in content
    assert b"[redacted 1]" in content


def test_untouched_secrets_keep_their_values_and_move_with_their_placeholder() -> None:
    message = stored()
    shown = editable(message)
    assert list(shown.secrets) == ["[redacted 1]", "[redacted 2]"]  # `cards` holds the others
    restored = module._restored(
        {"token": "new", "was": {"password": "[redacted 1]"}, "list": [{"cards": "[redacted 2]"}]},
        shown.secrets, "kwargs",
    )  # fmt: skip
    assert restored == {
        "token": "new",
        "was": {"password": "hunter2"},
        "list": [{"cards": [{"card": "4111"}, {"card": "5500", "token": {"a": 1}}]}],
    }


@pytest.mark.parametrize(
    "typed",
    [
        '{"note": "[redacted 1]"}',
        '{"token": "[redacted 1]"}',
        '{"list": ["[redacted 1]"]}',
        '{"password": ["[redacted 1]"]}',
    ],
)
def test_a_secret_cannot_be_moved_to_where_it_would_be_seen(typed: str) -> None:
    with pytest.raises(Unusable, match="can be used under that key only"):
        edited(stored(), "[1.0]", typed)


def test_an_edit_beside_a_secret_sends_the_secret(admin: Client, broker: Broker) -> None:
    from tests.web.secretive import log_in

    dead = bury(log_in.name, b"[]", b'{"user":"ada","password":"hunter2"}')
    typed = form(admin, dead)["kwargs"].replace("ada", "grace")
    admin.post(url(dead), {"args": "[]", "kwargs": typed})
    message = sent(broker, dead)
    assert message is not None
    assert message.kwargs == b'{"user":"grace","password":"hunter2"}'


def test_what_is_left_as_it_was_is_sent_byte_by_byte() -> None:
    message = Message(new_id(), sleep.name, b"[ 1.50 ]", b"{ }")
    shown = editable(message)
    arguments = edited(message, shown.args.replace("\n", "\r\n") + "\r\n", shown.kwargs)
    assert arguments == (b"[ 1.50 ]", b"{ }")


def test_an_unchanged_form_is_a_plain_requeue(admin: Client, broker: Broker) -> None:
    dead = bury()
    admin.post(url(dead), form(admin, dead))
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Requeued as run 2."]


# --- who, when --------------------------------------------------------------------------------------------------------


def test_it_needs_two_permissions_and_a_token(admin: Client, allowed: Allowed, broker: Broker) -> None:
    dead = bury()
    typed = {"args": "[1,2]", "kwargs": "{}"}
    for codenames in (("view_deadtask", "requeue"), ("view_deadtask", "view_arguments"), ("requeue", "view_arguments")):
        client = allowed(*codenames)
        assert client.get(url(dead)).status_code == client.post(url(dead), typed).status_code == 403
        if "view_deadtask" in codenames:
            assert url(dead) not in client.get(f"{LIST}{dead.pk}/change/").content.decode()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    assert strict.post(url(dead), typed).status_code == 403
    assert admin.put(url(dead)).status_code == 405
    assert only_dead().state == "dead"
    client = allowed("view_deadtask", "requeue", "view_arguments")
    assert client.post(url(dead), typed).headers["Location"] == f"{LIST}{dead.pk}/change/"
    assert only_dead().state == "requeued"


def test_after_a_plain_requeue_nothing_is_sent(admin: Client, broker: Broker) -> None:
    dead = bury()
    requeue(dead)
    DeadTask.objects.update(state="dead")  # this page was open before
    content = admin.post(url(dead), {"args": "[5,5]", "kwargs": "{}"}, follow=True).content.decode()
    assert "what you typed was not sent" in content
    message = sent(broker, dead)
    assert message is not None
    assert message.args == b"[1,2]"


def test_what_is_dealt_with_or_unreadable_or_gone_leads_back(admin: Client, broker: Broker) -> None:
    dead = bury()
    DeadTask.objects.update(state="discarded")
    assert b"dead no longer" in admin.get(url(dead), follow=True).content
    DeadTask.objects.update(state="dead", raw=b"")
    assert b"malformed" in admin.get(url(dead), follow=True).content
    dead.delete()
    assert b"does not exist" in admin.get(f"{LIST}1/edit/", follow=True).content


def test_arguments_too_long_for_a_form(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 5)
    assert b"too long to be edited" in admin.get(url(bury(args=b"[1,2,3]")), follow=True).content


def test_hostile_arguments_are_text(admin: Client) -> None:
    hostile = b'{"message":"</textarea><script>alert(1)</script>"}'
    content = admin.get(url(bury(fail.name, b"[]", hostile))).content.decode()
    assert "<script>alert" not in content
    assert "&lt;/textarea&gt;&lt;script&gt;" in content
