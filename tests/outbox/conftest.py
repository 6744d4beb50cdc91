"""`relay` is one of this process, on the test's database and server. What it sends, no worker takes.

Tasks of the outbox are known to this process in these tests only: whether there are any decides over what others cost.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from django_taskq import TaskHandle, registry
from django_taskq.broker import Broker, get_broker
from django_taskq.models import OutboxEntry
from django_taskq.relay import Relay
from tests.outbox import tasks
from tests.outbox.tasks import add

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

TASKS = [registry._tasks.pop(task.name) for task in (tasks.add, tasks.note, tasks.one_by_one)]
QUEUES: dict[str, dict[str, Any]] = {"default": {}, "mail": {}}


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    for task in TASKS:
        registry.register(task)
        task.forget_settings()
    yield
    for task in TASKS:
        del registry._tasks[task.name]


@pytest.fixture
def taskq(taskq_settings: SettingsWrapper, transactional_db: None) -> SettingsWrapper:
    """TASKQ with the queues of tasks.py, and a database whose commits are real."""
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": QUEUES}
    return taskq_settings


@pytest.fixture
def outbox_broker(taskq: SettingsWrapper) -> Broker:
    return get_broker()


@pytest.fixture
def relay(outbox_broker: Broker) -> Relay:
    return Relay(outbox_broker, "default")


def to_mail(number: int) -> TaskHandle[int]:
    """A task for another queue than `default`."""
    return add.using(queue_name="mail").delay(number)


def waiting() -> list[str]:
    """Ids of the tasks in the outbox, in their order."""
    return [str(id) for id in OutboxEntry.objects.values_list("task_id", flat=True)]


def age(seconds: float) -> None:
    """As if all entries had been written so long ago."""
    OutboxEntry.objects.update(created_at=timezone.now() - dt.timedelta(seconds=seconds))
