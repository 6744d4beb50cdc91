"""The gauges of the whole queue, and what a web process adds: by django-prometheus' registry."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.db import transaction
from prometheus_client import REGISTRY, CollectorRegistry

from django_taskq import Breaker, metrics, producer, task
from django_taskq.broker import Broker, Submission, census, get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.periodic import Tick, Ticks
from django_taskq.broker.workers import Beat, Workers
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.metrics import cluster
from tests.metrics.scrape import collected
from tests.sampleapp.tasks import add
from tests.servers import ROOT, RedisServer

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@task(outbox=True)
def written() -> None:
    """Sent by way of the database."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    monkeypatch.setattr(cluster, "FRESH", 0.0)
    counter = producer._counter
    registry = CollectorRegistry()
    metrics.register(registry)
    yield registry
    producer.set_counter(counter)


def test_depth_age_schedule_and_what_this_process_sent(
    broker: Broker, settings: SettingsWrapper, registry: CollectorRegistry
) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    add.delay(1, 2)
    add.using(queue_name="mail", priority=5).delay_many([((1, 2), {})] * 3)
    add.using(run_after=3600).delay(1, 2)
    add.using(idempotency_key="once").delay(1, 2)
    add.using(idempotency_key="once").delay(1, 2)
    Inspector(get_broker()).pause("mail")
    time.sleep(0.05)
    seen = collected(registry)
    assert seen("taskq_queue_depth", queue="default", state="ready") == 2
    assert seen("taskq_queue_depth", queue="mail", state="ready") == 3
    assert seen("taskq_queue_depth", queue="mail", state="running") == 0
    assert seen("taskq_queue_depth", queue="default", state="scheduled") == 1
    assert seen("taskq_scheduled") == 1
    assert 0.05 <= seen("taskq_queue_oldest_age_seconds", queue="mail") < 5
    assert seen("taskq_queue_paused", queue="mail") == 1
    assert seen("taskq_queue_paused", queue="default") == 0
    assert seen("taskq_recorder_lag") == 0
    assert seen("taskq_tasks_enqueued_total", task="tests.sampleapp.tasks.add", queue="default") == 3
    assert seen("taskq_tasks_enqueued_total", task="tests.sampleapp.tasks.add", queue="mail") == 3
    assert seen.values("taskq_queue_depth", queue="mail", state="blocked") == [0]


@pytest.mark.django_db(transaction=True)
def test_what_goes_through_the_outbox_counts_once_it_is_committed(broker: Broker, registry: CollectorRegistry) -> None:
    with contextlib.suppress(ValueError), transaction.atomic():
        written.delay()
        raise ValueError("rolled back")
    assert collected(registry)("taskq_tasks_enqueued_total") == 0
    with transaction.atomic():
        written.delay()
        assert collected(registry)("taskq_tasks_enqueued_total") == 0
    assert collected(registry)("taskq_tasks_enqueued_total") == 1


def test_breakers_and_paused_tasks(broker: Broker, registry: CollectorRegistry) -> None:
    assert collected(registry).values("taskq_breaker_state") == []
    crm, mail = Breaker("crm", failures=1, cooldown=60), Breaker("mail", failures=1, cooldown=0.1)
    for breaker in (crm, mail):
        with pytest.raises(ZeroDivisionError), breaker:
            raise ZeroDivisionError
    Inspector(broker).pause_task("shop.charge")
    Inspector(broker).pause("mail")
    time.sleep(0.15)
    seen = collected(registry)
    for name, state in (("crm", "open"), ("mail", "half_open")):
        states = {s.labels["state"]: s.value for s in seen.all if s.labels.get("breaker") == name}
        assert states == {"closed": 0, "open": 0, "half_open": 0} | {state: 1}
    assert [s.labels for s in seen.all if s.name == "taskq_task_paused"] == [{"task": "shop.charge"}]
    crm.close()
    assert collected(registry)("taskq_breaker_state", breaker="crm", state="closed") == 1


def test_only_so_many_breakers_and_paused_tasks_have_series(
    broker: Broker, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "MOST_NAMES", 2)
    for name in "cab":
        Breaker(name, failures=1).ask("failure", "")
        Inspector(broker).pause_task(name)
    seen = collected(registry)
    assert {s.labels["breaker"] for s in seen.all if s.name == "taskq_breaker_state"} == {"a", "b"}
    assert [s.labels["task"] for s in seen.all if s.name == "taskq_task_paused"] == ["a", "b"]


def test_ticks_of_periodic_tasks_are_counted_from_the_first_on(
    broker: Broker, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collected(registry).values("taskq_periodic_late_total") == []
    ticks, now = Ticks(broker), round(broker.time() * 1000)
    for tick in (
        Tick("a:day", now), Tick("a:day", now + 1, late=True, missed=3), Tick("a:day", now + 2, overlap=False),
        Tick("b", now),
    ):  # fmt: skip
        ticks.fire(tick, Submission(Message(new_id(), "t"), "default"))
    seen = collected(registry)
    counts = {name: seen.values(f"taskq_periodic_{name}_total") for name in ("sent", "late", "missed", "overlapped")}
    assert counts == {"sent": [2, 1], "late": [1, 0], "missed": [3, 0], "overlapped": [1, 0]}
    assert seen("taskq_periodic_late_total", periodic="a:day") == 1
    monkeypatch.setattr(census, "MOST_NAMES", 1)
    assert collected(registry).values("taskq_periodic_sent_total") == [2]


def test_workers_by_state(broker: Broker, redis_server: RedisServer, registry: CollectorRegistry) -> None:
    workers = Workers(broker.connections, broker.keys)
    for name in ("a", "b", "c", "d"):
        workers.register(name, {"host": "h", "started": int(time.time())})
    workers.beat([Beat("a", {"state": "running"}), Beat("b", {"state": "quiet"}), Beat("c", {"state": "running"})])
    with redis_server.client() as client:
        client.hset("{taskq}:worker:c", "beat", int(time.time()) - 60)
    workers.declare_dead("d", None, [])
    seen = collected(registry)
    states = {sample.labels["state"]: sample.value for sample in seen.all if sample.name == "taskq_workers"}
    assert {state: count for state, count in states.items() if count} == {
        "running": 1,
        "quiet": 1,
        "silent": 1,
        "dead": 1,
    }
    assert states["starting"] == 0  # a state without workers has a series


def test_a_scrape_is_two_round_trips_and_serves_a_second(
    broker: Broker, redis_server: RedisServer, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected(registry)  # loads the script, connects
    monkeypatch.setattr(cluster, "FRESH", 60.0)
    with redis_server.client(decode_responses=True) as client:
        before = client.info("commandstats")
        for _ in range(5):
            collected(registry)
        after = client.info("commandstats")
    calls = {
        name.removeprefix("cmdstat_"): value["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, value in after.items()
    }
    assert {name: calls.get(name, 0) for name in ("evalsha", "time", "hget")} == {"evalsha": 1, "time": 1, "hget": 1}


def test_redis_away_is_told_soon_and_alone(
    broker: Broker, redis_server: RedisServer, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.3)
    collected(registry)
    redis_server.freeze()
    began = time.monotonic()
    seen = collected(registry)
    assert time.monotonic() - began < 2
    assert seen("taskq_redis_up") == 0
    assert [s.name for s in seen.all if s.name.startswith("taskq_") and "enqueued" not in s.name] == ["taskq_redis_up"]
    redis_server.thaw()
    assert collected(registry)("taskq_redis_up") == 1


def test_registering_asks_nobody_and_may_be_repeated(settings: SettingsWrapper) -> None:
    settings.TASKQ = {"BROKER": "redis://127.0.0.1:1/0"}
    began = time.monotonic()
    registry = CollectorRegistry(auto_describe=True)
    counter = producer._counter
    metrics.register(registry)
    metrics.register(registry)
    importlib.reload(metrics).register(registry)
    producer.set_counter(counter)
    assert time.monotonic() - began < 0.5
    assert len(registry._collector_to_names) == 2


def test_whoever_does_not_ask_for_them_imports_nothing() -> None:
    program = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"])
import django
django.setup()
import django_taskq.management.commands.taskq_worker, django_taskq.management.commands.taskq_health
print([name for name in sys.modules if "prometheus" in name or name.startswith("django_taskq.metrics")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


def test_the_default_registry_has_them_in_a_project_with_django_prometheus() -> None:
    assert "taskq_redis_up" in REGISTRY._names_to_collectors


@pytest.mark.django_db
def test_the_web_process_serves_them_beside_djangos_own(client: object, broker: Broker) -> None:
    add.delay(1, 2)
    text = client.get("/metrics").content.decode()  # type: ignore[attr-defined]
    assert 'taskq_queue_depth{queue="default",state="ready"} 1.0' in text
    assert 'taskq_tasks_enqueued_total{queue="default",task="tests.sampleapp.tasks.add"}' in text
    assert "django_http_requests_before_middlewares_total" in text
    assert "django_db_execute_total" in text
