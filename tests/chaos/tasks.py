"""The tasks of the load, each of a kind whose end is known beforehand (kinds.py). Their bodies keep the ledger."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django_taskq import BatchCall, Breaker, Discard, TaskContext, current_task, task
from tests.chaos import ledger

SOON = [0.1]  # seconds until the next attempt
PLACES = 2  # of an account
RATE, LISTS = 2, 2  # a second, for each list
COOLDOWN = 0.5  # seconds
NARROW = {"max_length": 1, "overflow": "drop_oldest"}  # the queue of `moves`
TICK = -1  # number of what no producer sent
HOGGED = 18  # seconds: longer than the limit without a beat
MEMORY: list[bytes] = []


@contextmanager
def kept(number: int, context: TaskContext | None = None) -> Iterator[None]:
    """Writes down that the body begins and that it ends."""
    context, books = context or current_task(), ledger.Books(Path(os.environ["CHAOS_DIRECTORY"]))
    about = {"id": context.id, "number": number, "pid": os.getpid(), "machine": int(os.environ["CHAOS_MACHINE"])}
    ledger.append(books.bodies, what="start", **about, run=context.run, attempt=context.attempt, losses=context.losses)
    try:
        yield
    finally:
        ledger.append(books.bodies, what="end", **about)


@task
def quick(number: int) -> int:
    with kept(number):
        return number


@task
def works(number: int, seconds: float) -> None:
    with kept(number):
        time.sleep(seconds)


@task
async def waits(number: int, seconds: float) -> None:
    with kept(number):
        await asyncio.sleep(seconds)


@task(max_retries=5, backoff=SOON)
def stumbles(number: int, times: int) -> None:
    """Fails so many times."""
    with kept(number):
        if current_task().attempt <= times:
            raise ValueError("not yet")


@task(max_retries=1, backoff=SOON)
def fails(number: int) -> None:
    with kept(number):
        raise ValueError("never")


@task(max_retries=0)
def fails_once(number: int) -> None:
    """Succeeds when its dead letter has been requeued."""
    with kept(number):
        if current_task().run == 1:
            raise ValueError("not in this run")


@task(max_retries=1, backoff=SOON, timeout=0.2)
def overruns(number: int) -> None:
    """Longer than its time limit, twice."""
    with kept(number):
        for _ in range(1000):
            time.sleep(0.01)


@task(max_retries=0, timeout=0.2)
async def overruns_async(number: int) -> None:
    with kept(number):
        await asyncio.sleep(10)


@task
def gives_up(number: int) -> None:
    with kept(number):
        raise Discard("as agreed")


@task(batch=10, batch_timeout=0.15, max_retries=1, backoff=SOON)
def gathered(calls: list[BatchCall[int]]) -> list[ValueError | None]:
    """One of five fails once."""
    with ExitStack() as bodies:
        for call in calls:
            bodies.enter_context(kept(call.item, call.context))
        return [ValueError("not yet") if call.item % 5 == 0 and call.attempt == 1 else None for call in calls]


@task(max_concurrency=PLACES, concurrency_key="account:{account}")
def synchronises(number: int, account: int, seconds: float) -> None:
    with kept(number):
        time.sleep(seconds)


@task(rate_limit=f"{RATE}/s", rate_limit_key="list:{list_id}")
def newsletter(number: int, list_id: int) -> None:
    with kept(number):
        pass


@task(fair_key="tenant:{tenant}")
def of_a_tenant(number: int, tenant: int) -> None:
    with kept(number):
        pass


@task(circuit_breaker=Breaker("elsewhere", failures=3, within=10, cooldown=COOLDOWN), max_retries=99, backoff=SOON)
def calls_out(number: int) -> None:
    """Fails while what it calls is down (weather.py)."""
    with kept(number):
        if ledger.Books(Path(os.environ["CHAOS_DIRECTORY"])).down.exists():
            raise ConnectionError("nobody answers")


@task
def charges(number: int) -> None:
    """Of a type that is paused for a while (weather.py)."""
    with kept(number):
        pass


@task
def moves(number: int) -> None:
    """Worth nothing once there are newer ones: its queue drops the oldest."""
    with kept(number):
        time.sleep(0.1)


@task
def hogs(number: int) -> None:
    """Keeps the interpreter's lock: no other thread of its process takes a step."""
    with kept(number):
        ctypes.PyDLL(None).sleep(HOGGED)


@task
def grows(number: int) -> None:
    """Its process has 20 MB more from now on."""
    with kept(number):
        MEMORY.append(b"x" * 20_000_000)


@task
def crashes(number: int, how: str) -> None:
    """Takes its process along, the first time."""
    with kept(number):
        if current_task().losses:
            return
        books = ledger.Books(Path(os.environ["CHAOS_DIRECTORY"]))
        ledger.append(books.faults, point="task", action="kill", seconds=0.0, pid=os.getpid(), machine=-1)
        if how == "exit":
            os._exit(3)
        elif how == "segfault":
            ctypes.string_at(0)
        os.kill(os.getpid(), signal.SIGKILL)
