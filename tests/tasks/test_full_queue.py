"""A full queue, as whoever calls `delay()` sees it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_taskq import InvalidTask, QueueFull, TaskHandle
from django_taskq.broker import Broker, get_broker
from django_taskq.signals import task_failed
from tests.tasks import sample

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def bounded(taskq_settings: SettingsWrapper) -> SettingsWrapper:
    """The queue `default` takes two tasks."""
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {"default": {"max_length": 2}, "mail": {}}}
    return taskq_settings


def queued() -> int:
    broker = get_broker()
    return int(broker.connections.execute("XLEN", broker.keys.lane("default", 0)))


def test_every_way_of_sending_says_that_the_queue_is_full(bounded: SettingsWrapper) -> None:
    sample.add.delay_many([((1,), {}), ((2,), {})])
    for send in (
        lambda: sample.add.delay(1),
        lambda: asyncio.run(sample.add.adelay(1)),
        lambda: sample.add.delay_many([((1,), {})] * 2),
        lambda: sample.add.using(priority=7, run_after=60).delay(1),
        lambda: sample.add.using(enqueue_timeout=0.05).delay(1),
    ):
        with pytest.raises(QueueFull) as caught:
            send()
        assert (caught.value.queue, caught.value.depth, caught.value.limit) == ("default", 2, 2)
    assert queued() == 2
    assert sample.add.using(queue_name="mail").delay(1).status == "queued"


@pytest.mark.django_db(transaction=True)
def test_on_commit_it_comes_out_of_the_commit(bounded: SettingsWrapper) -> None:
    with transaction.atomic():
        sample.add.delay_on_commit(1)
        sample.add.delay(1)
    with pytest.raises(QueueFull), transaction.atomic():
        sample.add.delay_on_commit(1)
    assert queued() == 2


def test_the_option_of_the_call_comes_before_that_of_the_task_and_the_queue(taskq_settings: SettingsWrapper) -> None:
    queue = {"max_length": 1, "enqueue_timeout": 30}
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {"default": queue}}
    sample.add.delay(1)
    started = time.monotonic()
    with pytest.raises(QueueFull):
        sample.add.using(enqueue_timeout=0).delay(1)
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "TASK_DEFAULTS": {"enqueue_timeout": 0.05}}
    with pytest.raises(QueueFull):
        sample.add.delay(1)
    assert time.monotonic() - started < 5
    with pytest.raises(InvalidTask, match=r"enqueue_timeout='soon': must be seconds, a timedelta or None"):
        sample.add.using(enqueue_timeout="soon")  # type: ignore[arg-type]


def test_dropping_the_oldest_is_told_by_signal_and_handle(taskq_settings: SettingsWrapper, broker: Broker) -> None:
    queue = {"max_length": 1, "overflow": "drop_oldest"}
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {"default": queue}}
    told: list[dict[str, Any]] = []

    def hear(sender: Any, **fields: Any) -> None:
        told.append({"sender": sender, **fields})

    task_failed.connect(hear)
    try:
        first: TaskHandle[int] = sample.add.delay(1)
        second = sample.add.delay(2)
        sample.add.delay_many([((3,), {})])
    finally:
        task_failed.disconnect(hear)
    assert [(each["sender"], each["task_id"], each["reason"], each["queue"]) for each in told] == [
        (sample.add, first.id, "dropped", "default"),
        (sample.add, second.id, "dropped", "default"),
    ]
    first.refresh()
    assert first.status == "failed"
    with pytest.raises(QueueFull):
        sample.add.delay_many([((1,), {})] * 2)
