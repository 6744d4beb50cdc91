"""Dead letters: pages, filters, one of them, and what is done to one or to many."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry

from django_taskq.broker import Broker
from django_taskq.models import DeadTask
from tests.api.conftest import Api, only_dead, ready, record
from tests.records.outcomes import NOW, failed
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db


def ids(answer: Any) -> list[int]:
    assert answer.status == 200, answer
    return [item["id"] for item in answer.body["items"]]


def pages(api: Api, **query: Any) -> list[list[int]]:
    """Every page, to the end."""
    found = []
    while True:
        answer = api.get(f"dead?{urlencode(query)}")
        found.append(ids(answer))
        if answer.body["next_cursor"] is None:
            return found
        query["cursor"] = answer.body["next_cursor"]


def test_pages_hold_every_dead_letter_once_newest_first(api: Api) -> None:
    record(*[failed(finished=NOW + second // 3) for second in range(25)])  # three at a time, failed at the same moment
    everything = list(DeadTask.objects.order_by("-failed_at", "-id").values_list("pk", flat=True))
    parts = pages(api, limit=4)
    assert [len(part) for part in parts] == [4, 4, 4, 4, 4, 4, 1]
    assert [id for part in parts for id in part] == everything
    assert pages(api, limit=25) == [everything]


def test_what_arrives_meanwhile_moves_no_page(api: Api) -> None:
    record(*[failed(finished=NOW + second) for second in range(6)])
    first = api.get("dead?limit=3").body
    record(failed(finished=NOW + 100))
    second = api.get(f"dead?limit=3&cursor={first['next_cursor']}").body
    assert len({item["id"] for item in first["items"] + second["items"]}) == 6


@pytest.mark.parametrize(
    ("limit", "listed"), [("1", 1), ("0", 1), ("-5", 1), ("99999999999999999999", 200), ("", None)]
)
def test_limits_are_clamped(api: Api, limit: str, listed: int | None) -> None:
    record(*[failed() for _ in range(210)])
    answer = api.get(f"dead?limit={limit}")
    if listed is None:
        assert answer.code == "invalid_query"
    else:
        assert len(ids(answer)) == listed


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 2),
        ({"state": "all"}, 3),
        ({"state": "discarded"}, 1),
        ({"task": "shop.other"}, 1),
        ({"task": "shop.none"}, 0),
        ({"task": "a\x00b"}, 0),
        ({"queue": "mail"}, 1),
        ({"reason": "worker_lost"}, 1),
        ({"error_class": "builtins.KeyError"}, 1),
        ({"failed_after": "2025-10-09T08:53:21Z"}, 1),
        ({"failed_before": "2025-10-09T10:53:21+02:00"}, 1),
        ({"failed_before": "0001-01-01T00:00:00+14:00"}, 0),
        ({"failed_after": "9999-12-31T23:59:59-14:00"}, 0),
        ({"task_id": str(uuid.UUID(int=7))}, 0),
    ],
)
def test_filters(api: Api, query: dict[str, str], found: int) -> None:
    record(
        failed(task="shop.other", queue="mail", error_class="builtins.KeyError", finished=NOW),
        failed(reason="worker_lost", finished=NOW + 7200),
        failed(task="shop.gone", finished=NOW),
    )
    DeadTask.objects.filter(task="shop.gone").update(state="discarded")
    assert len(ids(api.get(f"dead?{urlencode(query)}"))) == found


def test_a_kind_of_failure_and_a_task_are_filters_too(api: Api) -> None:
    record(failed(), failed(), failed(error_class="builtins.KeyError"))
    first = DeadTask.objects.earliest("pk")
    assert len(ids(api.get(f"dead?fingerprint={first.fingerprint}"))) == 2
    assert ids(api.get(f"dead?task_id={first.task_id}")) == [first.pk]


@pytest.mark.parametrize(
    "query",
    [
        "state=none", "limit=x", "limit=1.5", "limit=1&limit=2", "failed_after=yesterday", "failed_after=0",
        "task_id=7",
        "failed_after=2026-01-01T00:00:00", "colour=red", "cursor=x", "cursor=bnVsbA", "cursor=WzEsMl0&cursor=1",
        "cursor=%00", "cursor=W1tbW1tb", "cursor=Wy0xLDFd", "cursor=WzFlMzAwLDFd", f"task={'x' * 256}",
    ],
)  # fmt: skip
def test_queries_that_make_no_sense_are_refused(api: Api, query: str) -> None:
    answer = api.get(f"dead?{query}")
    assert (answer.status, answer.code) in {(400, "invalid_query"), (400, "invalid_cursor")}


def test_one_is_shown_whole_but_for_its_raw_message(api: Api, caller: Callable[..., Api]) -> None:
    record(failed(raw=b"a raw s3cret", kwargs=b'{"to":"ada","password":"hunter2"}'))
    dead = only_dead()
    answer = api.get(f"dead/{dead.pk}")
    assert answer.body["task_id"] == str(dead.task_id)
    assert answer.body["kwargs"] == {"to": "ada", "password": "[redacted]"}
    assert "smtplib.py" in answer.body["traceback"]
    assert answer.body["failed_at"] == dt.datetime.fromtimestamp(NOW + 2, dt.UTC).isoformat().replace("+00:00", "Z")
    assert "s3cret" not in str(answer)
    assert "hunter2" not in str(answer)
    hidden = caller("view_deadtask").get(f"dead/{dead.pk}").body
    assert not {"args", "kwargs", "raw"} & set(hidden)


@pytest.mark.parametrize("id", ["0", "-1", "x", "9" * 19, "9" * 40, "%00", "1.0", "\u0661"])
def test_an_unknown_one_is_not_found(api: Api, id: str) -> None:
    for answer in (api.get(f"dead/{id}"), api.post(f"dead/{id}/requeue"), api.post(f"dead/{id}/discard")):
        assert (answer.status, answer.code) == (404, "unknown_dead_letter")


# --- one --------------------------------------------------------------------------------------------------------------


def test_requeued_twice_sent_once_and_logged_once(api: Api, broker: Broker) -> None:
    record(failed())
    dead = only_dead()
    answers = [api.post(f"dead/{dead.pk}/requeue") for _ in range(2)]
    assert [answer.body["sent"] for answer in answers] == [True, False]
    assert only_dead().state == "requeued"
    assert ready(broker) == 1
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.object_repr, entry.get_edited_object()) == (str(dead.pk), str(dead), dead)
    assert entry.change_message.startswith("Requeued. (API token")


def test_what_cannot_be_requeued_stays_dead_and_the_answer_says_why(api: Api, broker: Broker) -> None:
    record(failed(raw=b"", reason="malformed"))
    answer = api.post(f"dead/{only_dead().pk}/requeue")
    assert (answer.status, answer.code) == (409, "requeue_refused")
    assert "malformed" in answer.body["error"]["message"]
    assert only_dead().state == "dead"
    assert not LogEntry.objects.exists()


def test_discarded_once(api: Api) -> None:
    record(failed())
    path = f"dead/{only_dead().pk}/discard"
    assert [api.post(path).body["changed"] for _ in range(2)] == [True, False]
    assert only_dead().state == "discarded"
    assert LogEntry.objects.count() == 1


# --- many -------------------------------------------------------------------------------------------------------------


def all_batches(api: Api, path: str, **body: Any) -> list[dict[str, Any]]:
    """Repeats the call as its documentation says."""
    found = []
    while True:
        answer = api.post(path, body)
        assert answer.status == 200, answer
        found.append(answer.body)
        if answer.body["next_cursor"] is None:
            return found
        body["cursor"] = answer.body["next_cursor"]


def test_what_matches_is_requeued_in_batches(api: Api, broker: Broker) -> None:
    record(*[failed() for _ in range(7)], failed(raw=b"", reason="malformed"), failed(task="shop.other"))
    batches = all_batches(api, "dead/requeue", filter={"task": "shop.send"}, limit=3)
    assert [(batch["examined"], batch["requeued"]) for batch in batches] == [(3, 3), (3, 3), (2, 1)]
    [refusal] = batches[-1]["refused"]
    assert (refusal["count"], "malformed" in refusal["reason"]) == (1, True)
    assert ready(broker) == 7
    assert sorted(DeadTask.objects.filter(state="dead").values_list("task", flat=True)) == ["shop.other", "shop.send"]
    assert [entry.object_repr for entry in LogEntry.objects.order_by("pk")] == [
        "3 dead letters", "3 dead letters", "1 dead letter",
    ]  # fmt: skip


def test_what_fails_meanwhile_is_left_alone(api: Api, broker: Broker) -> None:
    record(*[failed() for _ in range(4)])
    first = api.post("dead/discard", {"all": True, "limit": 2}).body
    record(failed())
    rest = all_batches(api, "dead/discard", all=True, limit=2, cursor=first["next_cursor"])
    assert sum(batch["discarded"] for batch in [first, *rest]) == 4
    assert DeadTask.objects.filter(state="dead").count() == 1


@pytest.mark.parametrize("path", ["dead/requeue", "dead/discard"])
def test_everything_has_to_be_asked_for(api: Api, broker: Broker, path: str) -> None:
    record(failed())
    for body in ({}, {"filter": {}}, {"all": False}):
        assert api.post(path, body).code == "filter_required"
    for body in ({"fliter": {"task": "x"}}, {"filter": {"tsak": "x"}}, {"filter": {"state": "dead"}}, [], "x", None):
        assert api.post(path, body).code in ("invalid_body", "unsupported_media_type")
    assert api.post(path, {"all": True, "cursor": "x"}).code == "invalid_cursor"
    assert only_dead().state == "dead"
    assert api.post(path, {"all": True, "limit": 10**30}).body["examined"] == 1


def test_while_redis_is_away_nothing_is_marked(
    api: Api, broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.2)
    record(failed(), failed())
    redis_server.kill()
    for answer in (api.post("dead/requeue", {"all": True}), api.post(f"dead/{DeadTask.objects.all()[0].pk}/requeue")):
        assert (answer.status, answer.code) == (503, "broker_unavailable")
        assert answer.headers["Retry-After"] == "5"
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"dead"}
    assert not LogEntry.objects.exists()
    assert api.get("dead").status == 200  # the database is still there


def test_times_that_no_calendar_holds_are_left_out(api: Api) -> None:
    record(failed())
    DeadTask.objects.update(history='[{"number":1,"started":1e300,"ended":"x"},{"number":"x"},7]')
    [attempt] = api.get(f"dead/{only_dead().pk}").body["history"]
    assert (attempt["started_at"], attempt["ended_at"]) == (None, None)
