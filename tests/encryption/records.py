"""Sealed tasks in the database, as a worker and the recorder leave them there."""

from __future__ import annotations

import time
from typing import Any

from django_taskq import Task
from django_taskq.broker.delivery import Settlement
from django_taskq.bulk import Writer
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.models import DeadTask, TaskResult
from django_taskq.sealed import seal_call
from django_taskq.worker.work import Work
from tests.encryption.tasks import SECRET, charge, decline
from tests.records.outcomes import entries
from tests.worker.inside import delivery_with, new_executor, outcome_in
from tests.worker.test_executor import message_in

CALL = f'["{SECRET}"]'.encode()


def sealed_message(task: Task[..., Any], args: bytes = CALL) -> Message:
    message = Message(new_id(), task.name, args)
    seal_call(message)
    return message


def ended(settlement: object) -> None:
    assert isinstance(settlement, Settlement)
    Writer().write(entries(outcome_in(settlement), at=time.time()))


def result(task: Task[..., Any] = charge, args: bytes = CALL) -> TaskResult:
    executor, message = new_executor(), sealed_message(task, args)
    work = executor.prepare(delivery_with(message.fields()))
    assert isinstance(work, Work)
    ended(executor.succeeded(work, [SECRET]))
    return TaskResult.objects.get(task=task.name)


def dead_letter() -> DeadTask:
    """After two attempts."""
    executor, message = new_executor(), sealed_message(decline)
    for attempt in (1, 2):
        work = executor.prepare(delivery_with(message.fields()))
        assert isinstance(work, Work)
        try:
            raise ValueError(f"no money on {SECRET}")
        except ValueError as error:
            settlement = executor.failed(work, error)
        if attempt == 1:
            message = message_in(settlement)
    ended(settlement)
    return DeadTask.objects.get(task=decline.name)
