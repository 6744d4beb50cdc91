"""What `get_result()` knows, before and after, from Redis and from the records; and what it refuses."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.utils import timezone

from django_taskq.backend import lookup
from django_taskq.broker import Broker
from django_taskq.exceptions import TaskFailed
from django_taskq.models import DeadTask, TaskResult
from django_taskq.relay import Relay
from django_taskq.requeue import Requeued, requeue
from tests.backend import tasks
from tests.backend.api import Status, api, exceptions
from tests.backend.conftest import Heard, ended, recorded
from tests.servers import RedisServer, wait_for
from tests.worker.inside import Crew

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


def test_what_enqueue_returned_is_what_get_result_returns(broker: Broker) -> None:
    at = timezone.now() + timedelta(days=1, microseconds=123_457)
    task = tasks.echo.using(priority=-7, run_after=at)
    sent = task.enqueue(1, two={"three": [None, "ü"]})
    found = task.get_result(sent.id)
    assert found == sent
    assert (found.task.run_after, found.task.priority, found.status) == (at, -7, Status.READY)
    assert len(sent.id) < 64
    first = broker.find([uuid.UUID(sent.id).bytes])[0]
    assert first.due == -(-int(at.timestamp() * 1_000_000) // 1000)


@pytest.mark.django_db(transaction=True)
def test_the_records_say_the_same_as_redis(crew: Crew, broker: Broker) -> None:
    at = timezone.now() - timedelta(seconds=1, microseconds=1)
    sent = [
        ended(tasks.echo.using(run_after=at).enqueue(1, two=2)),
        ended(tasks.patient.enqueue(failures=2)),
        ended(tasks.patient.enqueue(failures=9)),
    ]
    recorded(broker)
    assert TaskResult.objects.count() == 3
    found = [api.default_task_backend.get_result(result.id) for result in sent]
    assert found == sent
    assert found[0].task.run_after == at
    assert [result.attempts for result in found] == [1, 3, 3]
    dead = DeadTask.objects.get()
    assert (dead.task, dead.reason) == ("tests.backend.tasks.patient", "failed")


@pytest.mark.django_db(transaction=True)
def test_a_requeued_dead_letter_is_the_same_result_again(crew: Crew, broker: Broker) -> None:
    sent = ended(tasks.fail.enqueue())
    recorded(broker)
    assert requeue(DeadTask.objects.get()) is Requeued.SENT
    before = sent.finished_at
    wait_for(lambda: ended(sent).finished_at > before, 5)
    assert (sent.status, sent.attempts, len(sent.errors)) == (Status.FAILED, 1, 1)


@pytest.mark.django_db
def test_nobody_knows_a_missing_result(broker: Broker) -> None:
    for id in ("123", "", "\x00", str(uuid.uuid4())):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            api.default_task_backend.get_result(id)


def test_a_result_belongs_to_its_task_and_its_backend(broker: Broker, settings: SettingsWrapper) -> None:
    sent, own = tasks.add.enqueue(1), tasks.own.delay(1)
    with pytest.raises(exceptions.TaskResultMismatch, match=r"tests\.backend\.tasks\.add"):
        tasks.add_soon.get_result(sent.id)
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        api.default_task_backend.get_result(own.id)
    settings.TASKS = {**settings.TASKS, "other": settings.TASKS["default"]}
    other = tasks.add.using(backend="other").enqueue(1)
    assert other.backend == "other"
    assert api.task_backends["other"].get_result(other.id) == other
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        api.task_backends["other"].get_result(sent.id)


def test_a_queue_that_is_no_more_does_not_hide_its_results(broker: Broker, settings: SettingsWrapper) -> None:
    queues = settings.TASKQ.get("QUEUES", {"default": {}})
    assert "mail" not in api.default_task_backend.queues  # it is made once, and sees what changes
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {**queues, "mail": {}}}
    sent = tasks.add.using(queue_name="mail").enqueue(1)
    settings.TASKQ = {**settings.TASKQ, "QUEUES": queues}
    settings.TASKS = dict(settings.TASKS)
    assert api.default_task_backend.get_result(sent.id).task.queue_name == "mail"


def test_refresh_inside_a_coroutine_does_not_touch_the_database(crew: Crew) -> None:
    async def act() -> Any:
        sent = await tasks.add.aenqueue(1)
        found = await tasks.add.aget_result(sent.id)
        while not found.is_finished:
            found.refresh()
            await asyncio.sleep(0.01)
        await sent.arefresh()
        return sent

    assert asyncio.run(act()).return_value == 2


def test_without_time_zones_times_are_naive(crew: Crew, settings: SettingsWrapper) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Tokyo"
    at = timezone.now() + timedelta(milliseconds=50, microseconds=1)
    sent = tasks.add.using(run_after=at).enqueue(1)
    result = ended(sent)
    assert result.enqueued_at.tzinfo is None
    assert at <= result.started_at <= result.finished_at < at + timedelta(seconds=10)
    assert tasks.add.using(run_after=at).get_result(sent.id).task.run_after == at


def test_an_end_without_an_exception_has_an_error_too(broker: Broker) -> None:
    sent = tasks.short_lived.enqueue()
    time.sleep(0.01)
    with Crew(broker):
        result = ended(sent)
    assert (result.status, result.attempts, result.started_at) == (Status.FAILED, 0, None)
    [error] = result.errors
    assert error.exception_class is TaskFailed
    assert "It did not start before its `expires`." in error.traceback


@pytest.mark.django_db(transaction=True)
def test_the_outbox_does_not_wait_for_a_redis_that_hangs(
    broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup._clock, "until", 0.0)
    with transaction.atomic():
        redis_server.freeze()
        began = time.monotonic()
        assert tasks.through_outbox.enqueue(1).status == Status.READY
        assert time.monotonic() - began < 2
        redis_server.thaw()


@pytest.mark.django_db(transaction=True)
def test_what_waits_in_the_outbox_is_ready(broker: Broker, heard: Heard) -> None:
    with transaction.atomic():
        sent = tasks.through_outbox.using(run_after=timezone.now() + timedelta(microseconds=1)).enqueue(1)
        assert tasks.through_outbox.get_result(sent.id) == sent
    assert broker.find([uuid.UUID(sent.id).bytes])[0].state is None
    assert Relay(broker, "default").run_once() == 1
    assert tasks.through_outbox.get_result(sent.id) == sent
    assert heard.names() == ["enqueued READY"]
