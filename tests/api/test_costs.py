"""What a call costs: a bounded number of queries and of round trips, whatever there is to be found."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_taskq.api.dead import matching
from django_taskq.api.schemas_dead import Filter
from django_taskq.broker import Broker
from django_taskq.core.ids import id_to_str
from django_taskq.models import DeadTask
from tests.api.conftest import Api, record
from tests.api.tasks import echo
from tests.broker.helpers import Hand, Shard
from tests.records.outcomes import failed
from tests.web.scene import Scene

pytestmark = pytest.mark.django_db
RoundTrips = Callable[[int], AbstractContextManager[None]]
CALLER = 4  # queries for the token, when it was last used, and the permissions of user and groups


@pytest.fixture
def busy(api: Api, hand: Hand) -> Api:
    """A caller, where there is much to see."""
    record(*[failed() for _ in range(520)])
    shard = Shard(hand.shard.broker)
    scene = Scene(hand.shard.broker)
    shard.seed_waiting(600)
    hand.claim(100)
    for number in range(40):
        scene.limited(hand, f"task:shop.send:{number}", 2)
        scene.fail_breaker(f"breaker-{number}")
        shard.workers.register(f"w-{number}", {"running": ""})
    api.get("queues")  # permissions' content types, once for the process
    return api


@pytest.mark.parametrize(
    ("path", "queries", "trips"),
    [
        ("queues?limit=200", 0, 1),
        ("queues/default", 0, 1),
        ("workers?limit=200", 0, 3),
        ("limits", 0, 2),
        ("breakers?limit=200", 0, 2),
        ("queues/default/tasks?limit=200", 0, 3),
        ("queues/default/tasks?state=blocked", 0, 2),
        ("limits/task:shop.send:7/waiting", 0, 2),
        ("periodic?limit=200", 1, 2),
        ("stats?minutes=1440", 0, 2),
        ("dead?limit=200", 1, 0),
        ("dead?task=shop.send&state=all", 1, 0),
    ],
)
def test_reading(busy: Api, round_trips: RoundTrips, path: str, queries: int, trips: int) -> None:
    with (
        CaptureQueriesContext(
            connection,
        ) as captured,
        round_trips(trips),
    ):
        assert busy.get(path).status == 200
    assert len(captured) <= CALLER + queries, captured.captured_queries
    assert not any('"raw"' in query["sql"] or '"traceback"' in query["sql"] for query in captured)


def test_one_task_and_one_dead_letter(busy: Api, broker: Broker, round_trips: RoundTrips) -> None:
    dead = DeadTask.objects.latest("pk")
    with CaptureQueriesContext(connection) as captured, round_trips(1):
        assert busy.get(f"tasks/{dead.task_id}").status == 200
        assert len(captured) <= CALLER + 1
    with CaptureQueriesContext(connection) as captured, round_trips(0):
        assert busy.get(f"dead/{dead.pk}").status == 200
        assert len(captured) <= CALLER + 1


LOGGED = 4  # a savepoint, the content type, the entry, the release


def test_many_at_once_share_their_queries_and_round_trips(busy: Api, broker: Broker, round_trips: RoundTrips) -> None:
    for path in ("dead/requeue", "dead/discard"):
        with CaptureQueriesContext(connection) as captured, round_trips(4):
            answer = busy.post(path, {"all": True, "limit": 250})
        assert answer.body["examined"] == 250
        assert len(captured) <= CALLER + LOGGED + 2 + 8, captured.captured_queries


def test_sending_and_cancelling(busy: Api, broker: Broker, round_trips: RoundTrips) -> None:
    with CaptureQueriesContext(connection) as captured, round_trips(1):
        assert busy.post("tasks", {"task": echo.name}).status == 202
    assert len(captured) <= CALLER + LOGGED
    [waiting] = Shard(broker).seed_waiting(1)
    with round_trips(4):
        assert busy.post(f"tasks/{id_to_str(waiting)}/cancel").status == 200


def test_lists_do_not_grow_with_what_there_is(busy: Api, round_trips: RoundTrips) -> None:
    for path, most in (("dead?limit=10000", 200), ("workers?limit=3", 3), ("dead", 50)):
        assert len(busy.get(path).body["items"]) == most


@pytest.mark.parametrize(
    "filters", [{}, {"task": "t"}, {"queue": "q"}, {"reason": "r"}, {"error_class": "e"}, {"fingerprint": "f"}]
)
def test_each_filter_has_an_index(db: None, filters: dict[str, Any]) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # no rows are read faster without an index
    rows = matching(Filter(**filters)).filter(state="dead").order_by("-failed_at", "-id")
    plan = rows.explain()
    assert re.search(r"(USING INDEX|using|Scan on) taskq_dead", plan), plan
