"""Who sees sealed values: in the admin, in the API, on the command line."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.test import Client
from django.utils import translation

from django_taskq import Undecryptable, get_task
from django_taskq.broker import Broker
from django_taskq.core.ids import id_to_str
from django_taskq.models import DeadTask
from tests.api.conftest import user_with
from tests.commands.conftest import run
from tests.encryption.conftest import with_keys
from tests.encryption.records import dead_letter, result
from tests.encryption.tasks import SECRET, charge, log_in
from tests.records.outcomes import settle, succeeded

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
Reader = Callable[[str], str]


def reader(*codenames: str) -> Reader:
    """What a member of staff with these permissions reads at an address."""
    user = user_with("view_taskresult", "view_deadtask", *codenames)
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)

    def read(address: str) -> str:
        response = client.get(address)
        assert response.status_code == 200, response
        return html.unescape(response.content.decode())

    return read


def pages() -> list[str]:
    done, dead = result(), dead_letter()
    waiting = charge.using(run_after=timedelta(hours=1)).delay(SECRET)
    return [
        f"/admin/django_taskq/taskresult/{done.pk}/change/",
        f"/admin/django_taskq/deadtask/{dead.pk}/change/",
        f"/admin/django_taskq/taskresult/{waiting.id}/change/",
        f"/taskq/tasks/{done.pk}",
        f"/taskq/dead/{dead.pk}",
        f"/taskq/tasks/{waiting.id}",
    ]


def test_with_permission_and_key_they_are_shown(broker: Broker) -> None:
    read = reader("view_arguments")
    result_page, dead_page, *others = [read(page) for page in pages()]
    assert "charge.delay('4111" in result_page
    assert "Result" in result_page
    assert dead_page.count(f"no money on {SECRET}") >= 3  # both attempts, and the traceback
    assert all(SECRET in page and "$sealed" not in page for page in (result_page, dead_page, *others))


@pytest.mark.parametrize("how", ["permission", "key"])
def test_without_permission_or_key_they_are_not(broker: Broker, keys: SettingsWrapper, how: str) -> None:
    addresses = pages()
    if how == "key":
        with_keys(keys, {"k1": None})
    read = reader(*["view_arguments"] * (how == "key"))
    found = [read(page) for page in (*addresses, "/admin/django_taskq/deadtask/", "/taskq/dead")]
    assert not any(SECRET in page or "$sealed" in page for page in found)
    assert "sealed with key k1" in found[1]
    assert json.loads(found[4])["error_message"].startswith("[sealed with key k1")
    if how == "key":
        assert "which is not here" in found[0]
        assert json.loads(found[3])["args"] == "[sealed with key k1, which is not here]"


def test_pages_say_so_in_the_readers_language_and_the_api_in_its_own(broker: Broker, keys: SettingsWrapper) -> None:
    keys.LANGUAGE_CODE = "de"
    addresses, read = pages(), reader()
    with translation.override("de"):
        found = [read(page) for page in (*addresses, "/admin/django_taskq/deadtask/")]
    assert "[versiegelt mit dem Schlüssel k1]" in found[1]
    assert "[versiegelt mit dem Schlüssel k1]" in found[-1]
    assert json.loads(found[4])["error_message"] == "[sealed with key k1]"


def test_secrets_inside_stay_redacted(broker: Broker) -> None:
    row = result(log_in, b'[{"user":"ada","password":"hunter2"}]')
    page = reader("view_arguments")(f"/admin/django_taskq/taskresult/{row.pk}/change/")
    assert '"user": "ada"' in page
    assert '"password": "[redacted]"' in page
    assert "hunter2" not in page


def test_altered_rows_say_so(broker: Broker) -> None:
    dead = dead_letter()
    DeadTask.objects.update(error_message=dead.traceback)
    page = reader("view_arguments")(f"/admin/django_taskq/deadtask/{dead.pk}/change/")
    assert "[sealed with key k1, and altered since]" in page


def test_a_search_by_argument_finds_no_sealed_rows(broker: Broker) -> None:
    row = result()
    page = reader("view_arguments")(f"/admin/django_taskq/taskresult/?q=number:{SECRET}")
    assert str(row.pk) not in page


def test_edited_arguments_are_sealed_again(broker: Broker, admin_client: Client) -> None:
    dead = dead_letter()
    address = f"/admin/django_taskq/deadtask/{dead.pk}/edit/"
    assert SECRET in admin_client.get(address).content.decode()
    admin_client.post(address, {"args": '["4222"]', "kwargs": "{}"})
    message = broker.find([dead.task_id.bytes])[0].message
    assert message is not None
    assert message.args.startswith(b'"$sealed:1:k1:')
    shown = admin_client.get(f"/admin/django_taskq/taskresult/{dead.task_id}/change/").content.decode()
    assert "4222" in shown
    assert "Its arguments were edited" in " ".join(shown.split())


def test_they_cannot_be_edited_without_a_key(broker: Broker, admin_client: Client, keys: SettingsWrapper) -> None:
    dead = dead_letter()
    with_keys(keys, {"k1": None})
    response = admin_client.get(f"/admin/django_taskq/deadtask/{dead.pk}/edit/", follow=True)
    assert "The key 'k1' is not in this process" in html.unescape(response.content.decode())


def test_the_command_shows_them_when_told_to(broker: Broker) -> None:
    dead = dead_letter()
    for words in (("list",), ("show", str(dead.task_id)), ("show", str(dead.task_id), "--json")):
        printed = run("taskq_dead", *words).out
        assert SECRET not in printed
        assert "[sealed with key k1]" in printed
    assert run("taskq_dead", "show", str(dead.task_id), "--open").out.count(SECRET) >= 3


def test_dead_letters_are_found_by_the_class_of_a_sealed_error_and_not_by_its_text(broker: Broker) -> None:
    dead = dead_letter()
    found = {text: run("taskq_dead", "list", "--json", "--error", text).json for text in ("valueerr", "money", "seal")}
    assert [row["task_id"] for row in found["valueerr"]] == [str(dead.task_id)]
    assert (found["money"], found["seal"]) == ([], [])


def test_a_result_that_came_plain_from_redis_is_no_result(broker: Broker) -> None:
    forged = succeeded(task=charge.name, result=b'["forged"]')
    settle(broker, forged)
    handle = get_task(id_to_str(forged.id))
    with pytest.raises(Undecryptable, match="came plain"):
        handle.get()
