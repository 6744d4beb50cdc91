"""Dead letters by kind of failure, above their list."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from django_taskq.admin import kinds
from django_taskq.models import DeadTask
from tests.records.outcomes import NOW, failed
from tests.web.conftest import Allowed, record

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/deadtask/"


def shown(client: Client, **query: str) -> list[tuple[str, int]]:
    return [(kind.title, kind.count) for kind in client.get(LIST, query).context["kinds"]]


def seed() -> None:
    """Three disconnections, one of them of another task, and two lost workers."""
    record(
        failed(finished=NOW),
        failed(finished=NOW + 60, error_message="the newest"),
        failed(finished=NOW + 30, task="shop.other", queue="mail"),
        *[failed(task="shop.thumb", reason="worker_lost", error_class="", traceback="") for _ in range(2)],
    )


def test_the_most_frequent_comes_first_with_its_newest_as_sample(admin: Client) -> None:
    seed()
    response = admin.get(LIST)
    first, second = response.context["kinds"]
    assert (first.title, first.count, first.place) == ("SMTPServerDisconnected", 3, "shop/mail.py:send")
    assert (second.title, second.count, second.place) == ("worker lost", 2, "")
    content = " ".join(response.content.decode().split())
    assert "the newest" in content
    for action in ("requeue", "discard"):
        assert f"bulk/{action}/?fingerprint={first.fingerprint}" in content


def test_they_follow_the_filters(admin: Client) -> None:
    seed()
    assert shown(admin, queue="mail") == [("SMTPServerDisconnected", 1)]
    assert shown(admin, reason="worker_lost") == [("worker lost", 2)]
    assert shown(admin, state="requeued") == []
    row = DeadTask.objects.first()
    assert row is not None
    assert shown(admin, fingerprint=row.fingerprint) == []  # the list shows nothing else
    content = admin.get(LIST, {"queue": "mail"}).content.decode()
    assert f"bulk/requeue/?fingerprint={row.fingerprint}&amp;queue=mail" in content


def test_more_kinds_are_a_click_away(admin: Client) -> None:
    record(*[failed(error_class=f"shop.Error{number}") for number in range(kinds.SHOWN + 2)])
    assert len(shown(admin)) == kinds.SHOWN
    assert "?kinds=all" in admin.get(LIST).content.decode()
    assert len(shown(admin, kinds="all")) == kinds.SHOWN + 2


def test_of_a_filters_choice_only_the_newest_are_counted(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "GROUPED", 2)
    record(*[failed(finished=NOW + number) for number in range(5)])
    assert shown(admin) == [("SMTPServerDisconnected", 5)]
    assert shown(admin, queue="default") == [("SMTPServerDisconnected", 2)]


def test_hostile_samples_are_text(admin: Client) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    record(failed(task=hostile, error_class=f"x.{hostile}", error_message=hostile, traceback=hostile))
    content = admin.get(LIST).content.decode()
    assert "<script>alert" not in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content


def test_they_cost_three_queries(admin: Client, allowed: Allowed, django_assert_max_num_queries: Any) -> None:
    record(*[failed(error_class=f"shop.Error{number}") for number in range(kinds.SHOWN)])
    admin.get(LIST)
    with django_assert_max_num_queries(13):
        admin.get(LIST)


def test_nothing_dead_is_good_news(admin: Client) -> None:
    assert b"Nothing is dead" in admin.get(LIST).content
    assert b"No dead letter matches" in admin.get(LIST, {"queue": "mail"}).content
