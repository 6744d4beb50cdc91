"""Searching by argument: exactly, by name or position, over the newest rows, and nothing that is redacted."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from django_taskq.admin import paging, search
from django_taskq.broker import Broker, Submission
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from tests.records.outcomes import NOW, failed, succeeded
from tests.sampleapp.tasks import add
from tests.web.conftest import Allowed, record

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/taskresult/"


def found(client: Client, term: str, url: str = LIST, **query: str) -> set[str]:
    response = client.get(url, {"q": term, **query})
    assert response.status_code == 200
    return {row.task for row in response.context["cl"].result_list}


def note(client: Client, term: str) -> str:
    return str(client.get(LIST, {"q": term}).context["search_note"])


def called(name: str, kwargs: str, **values: Any) -> Any:
    return succeeded(task=name, args=b"[]", kwargs=kwargs.encode(), **values)


@pytest.mark.parametrize(
    ("term", "tasks"),
    [
        ("user_id:42", {"number", "text", "spaced"}),
        (" user_id = 42 ", {"number", "text", "spaced"}),
        ('user_id:"42"', {"number", "text", "spaced"}),
        ("user_id:4", set()),
        ("user_id:420", {"longer"}),
        ("id:42", set()),
        ("email:ada@example.com", {"mail"}),
        ("email:ADA@example.com", set()),
        ("name:Zoë", {"accent", "escaped"}),
        ("flag:true", {"flag"}),
        ("flag:1", set()),
        ("nothing:null", {"flag"}),
        ('items:[1, "a b"]', {"list"}),
        ("text:50% _x_ 'q'", {"signs"}),
        ("nested:1", set()),
    ],
)
def test_by_name(admin: Client, term: str, tasks: set[str]) -> None:
    record(
        called("number", '{"user_id":42}'), called("text", '{"user_id":"42"}'), called("spaced", '{ "user_id" : 42 }'),
        called("longer", '{"user_id":420}'), called("mail", '{"email":"ada@example.com"}'),
        called("accent", '{"name":"Zoë"}'), called("escaped", '{"name":"Zo\\u00eb"}'),
        called("flag", '{"flag":true,"nothing":null}'), called("list", '{"items":[1,"a b"]}'),
        called("signs", '{"text":"50% _x_ \'q\'"}'), called("nested", '{"deep":{"nested":1}}'), called("broken", "{"),
        called("array", "[1]"),
    )  # fmt: skip
    assert found(admin, term) == tasks


def test_by_position_of_a_known_task(admin: Client) -> None:
    record(succeeded(task=add.name, args=b"[1,42]"), succeeded(task="shop.unknown", args=b"[1,42]"))
    assert found(admin, "b:42") == {add.name}
    assert found(admin, "a:42") == set()
    assert found(admin, "c:42") == set()


def test_beside_the_filters(admin: Client) -> None:
    record(called("one", '{"x":1}', queue="mail"), called("two", '{"x":1}'))
    assert found(admin, "x:1", queue="mail") == {"one"}


def test_dead_letters_too(admin: Client) -> None:
    record(failed(kwargs=b'{"user_id":42}'), failed(task="shop.other"))
    assert found(admin, "user_id:42", "/admin/django_taskq/deadtask/") == {"shop.send"}


def test_only_the_newest_are_searched_and_the_page_says_so(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WINDOW", 3)
    record(*[called(f"t{number}", '{"x":1}', finished=NOW + number) for number in range(5)])
    assert found(admin, "x:1") == {"t2", "t3", "t4"}
    monkeypatch.setattr(search, "MATCHES", 2)
    assert found(admin, "x:1") == {"t3", "t4"}
    assert note(admin, "x:1") == (
        f"The arguments of the newest {paging.WINDOW} are searched, and the newest 500 matches shown."
    )


def test_what_is_redacted_is_not_searched(admin: Client) -> None:
    record(called("secret", '{"password":"hunter2"}'))
    for term in ("password:hunter2", "password:[redacted]"):
        assert found(admin, term) == set()
        assert "redacted" in note(admin, term)


def test_whoever_may_not_see_arguments_cannot_guess_them(allowed: Allowed) -> None:
    record(called("one", '{"x":1}'))
    client = allowed("view_taskresult")
    assert found(client, "x:1") == set()
    assert "may not see arguments" in note(client, "x:1")
    assert found(allowed("view_taskresult", "view_arguments"), "x:1") == {"one"}


@pytest.mark.parametrize("term", ["x", "%", ":", "1:2", "x:" + "y" * 2000, "x:" + "[" * 900, "é:", "a b:1"])
def test_odd_terms_do_no_harm(admin: Client, term: str) -> None:
    record(called("one", '{"x":1}'))
    assert found(admin, term) == set()


def test_an_id_that_only_redis_knows_leads_to_its_page(admin: Client, broker: Broker) -> None:
    message = Message(new_id(), "shop.send")
    broker.enqueue([Submission(message, "default")])
    response = admin.get(LIST, {"q": message.id.hex()})
    assert response.headers["Location"] == f"{LIST}{uuid.UUID(bytes=message.id)}/change/"


def test_a_search_costs_two_queries_more(admin: Client, django_assert_max_num_queries: Any) -> None:
    record(*[called("one", '{"x":1}') for _ in range(20)])
    admin.get(LIST)
    with django_assert_max_num_queries(11):
        admin.get(LIST, {"q": "x:1"})


def test_by_worker_among_the_newest(admin: Client) -> None:
    record(*[succeeded(task=f"t{number}", worker=f"w{number % 2}", finished=NOW + number) for number in range(4)])

    def listed(worker: str) -> set[str]:
        return {row.task for row in admin.get(LIST, {"worker": worker}).context["cl"].result_list}

    assert (listed("w0"), listed("w1"), listed("gone")) == ({"t0", "t2"}, {"t1", "t3"}, set())
    content = admin.get(LIST, {"worker": "w0"}).content.decode()
    assert "are looked through for a worker" in content
    assert "?worker=w1" in content
