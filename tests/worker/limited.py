"""Tasks with limits, for workers of tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from django_taskq import Breaker, task
from tests.worker.tasks import write

PLACES = int(os.environ.get("TASKQ_TEST_PLACES", "2"))


@task(rate_limit="100/s")
def hundred_a_second(path: str) -> None:
    write(path, event="start")


@task(max_concurrency=PLACES, concurrency_key="{key}")
def one_of_few(path: str, key: str, number: int, seconds: float = 0.02) -> int:
    write(path, event="start", key=key, number=number)
    time.sleep(seconds)
    write(path, event="end", key=key, number=number)
    return number


@task(max_concurrency=1, concurrency_key="{key}", fair_key="{key}")
def one_of_many(path: str, key: int, number: int) -> None:
    write(path, event="start", key=key, number=number)
    write(path, event="end", key=key, number=number)


@task(max_concurrency=1, on_conflict="replace", concurrency_key="{key}")
def newest(path: str, key: str, number: int, seconds: float = 0.0) -> None:
    write(path, event="start", key=key, number=number)
    time.sleep(seconds)


@task(rate_limit="2/h", rate_limit_mode="refuse", rate_limit_key="account:{account_id}")
def rarely(account_id: int) -> int:
    return account_id


@task(circuit_breaker=Breaker(failures=2, within=60, cooldown=0.4), max_retries=20, backoff=[0.1])
def needs_a_gate(path: str, gate: str) -> None:
    write(path, event="start")
    Path(gate).read_text()


@task(max_concurrency=1, on_conflict="discard")
def one_or_none(path: str, number: int) -> None:
    write(path, event="start", number=number)
    time.sleep(0.3)  # so that the others come while it runs


frail = Breaker("frail", failures=1, within=60, cooldown=0.3)


@task(circuit_breaker=frail)
def takes_its_process_along(path: str, number: int, deaths: int) -> None:
    """The first so many times that it starts."""
    write(path, event="start", number=number)
    if Path(path).read_text().count(f'"number": {number}}}') <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)


guard = Breaker("guard", failures=1, within=60, cooldown=0.3)


@task(max_retries=0)
def guarded(path: str) -> None:
    write(path, event="start")
    with guard:
        write(path, event="inside")


@task(max_concurrency=1, rate_limit="200/s", circuit_breaker=Breaker(failures=100), max_retries=3, backoff=[0.01])
def all_at_once(path: str, number: int, fails: int = 0) -> int:
    """Has a limit of each kind; fails so many times first."""
    write(path, event="start", number=number, key="")
    time.sleep(0.02)
    if sum(f'"event": "start", "number": {number},' in line for line in Path(path).read_text().splitlines()) <= fails:
        write(path, event="end", number=number, key="")
        raise ValueError("again")
    write(path, event="end", number=number, key="")
    return number
