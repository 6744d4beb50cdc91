"""Batch tasks of these tests: each writes a line with the names of the calls that it was given together."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from django_taskq import BatchCall, Discard, Retry, current_task, task
from django_taskq.exceptions import TaskTimeout
from tests.worker.tasks import write

SOON = 0.05  # seconds


@dataclass
class Step:
    """What a call is to do, and the ledger to write to."""

    path: str
    name: str
    do: str = "succeed"
    day: date | None = None
    key: UUID | None = None


def _note(calls: list[BatchCall[Step]], event: str = "start") -> None:
    names, attempts = [call.item.name for call in calls], [call.attempt for call in calls]
    write(calls[0].item.path, event=event, names=names, attempts=attempts, ids=[call.id for call in calls])


def _end_of(call: BatchCall[Step]) -> str | BaseException:
    errors = {"fail": ValueError("no"), "retry": Retry(delay=SOON), "discard": Discard("not wanted")}
    if call.item.do == "fail once":
        return f"{call.item.name} again" if call.attempt > 1 else ValueError("not yet")
    return errors.get(call.item.do, f"{call.item.name} on {call.item.day}")


@task(batch=5, batch_timeout=0.3, max_retries=1, backoff=SOON)
def gathers(calls: list[BatchCall[Step]]) -> list[str | BaseException]:
    _note(calls)
    return [_end_of(call) for call in calls]


@task(batch=5, batch_timeout=0.3, max_retries=1, backoff=SOON)
async def gathers_async(calls: list[BatchCall[Step]]) -> list[str | BaseException]:
    await asyncio.sleep(0)
    assert current_task().calls == calls
    _note(calls)
    return [_end_of(call) for call in calls]


@task(batch=4, batch_timeout=0.2, max_retries=1, backoff=SOON)
def tells(calls: list[BatchCall[Step]]) -> None:
    """Says of each call how it ends, until one makes it raise."""
    _note(calls)
    for call in calls:
        if call.item.do == "raise" and call.attempt == 1:
            raise ConnectionError("the rest is not done")
        if call.item.do == "fail":
            call.fail(ValueError("no"))
        else:
            call.succeed(call.item.name)


@task(batch=3, batch_timeout=0.2)
def returns_too_few(calls: list[BatchCall[Step]]) -> list[str]:
    _note(calls)
    return [call.item.name for call in calls[1:]]


@task(batch=3, batch_timeout=0.2, timeout=0.3, max_retries=0)
def takes_long(calls: list[BatchCall[Step]]) -> None:
    calls[0].succeed("in time")
    try:
        for _ in range(250):
            time.sleep(0.02)
    except TaskTimeout:
        _note(calls, "timeout")
        raise


@task(batch=3, batch_timeout=0.2, timeout=None, hard_timeout=0.5, max_retries=0)
def never_ends(calls: list[BatchCall[Step]]) -> None:
    _note(calls)
    time.sleep(20)


@task(batch=3, batch_timeout=0.1)
def waits(calls: list[BatchCall[Step]]) -> None:
    """Until the gate opens."""
    _note(calls)
    while not Path(f"{calls[0].item.path}-gate").exists():
        time.sleep(0.02)


@task(batch=3, batch_timeout=0.1)
def kills(calls: list[BatchCall[Step]]) -> None:
    """One of the calls takes the process with it, each time it is run."""
    _note(calls)
    if any(call.item.do == "kill" for call in calls):
        os.kill(os.getpid(), signal.SIGKILL)


@task(batch=10, batch_timeout=0.05, max_concurrency=2, concurrency_key="name:{item.name}")
def at_most_two(calls: list[BatchCall[Step]]) -> None:
    _note(calls)


@task(batch=1_000, batch_timeout=30)
def patient(calls: list[BatchCall[Step]]) -> None:
    _note(calls)


@task
def child() -> None:
    """Sent by a batch."""


@task(batch=3, batch_timeout=0.3, timeout=None)
def sends_children(calls: list[BatchCall[str]]) -> list[list[str]]:
    """One child that is for any of the calls, and one that is for this one."""
    return [
        [
            child.using(inherit_deadline=True, run_after=60).delay().id,
            child.using(deadline=call.deadline, run_after=60).delay().id,
        ]
        for call in calls
    ]
