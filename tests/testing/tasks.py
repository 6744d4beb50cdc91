"""Tasks that are run in place."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django_taskq import BatchCall, Breaker, BreakerOpen, Discard, current_task, task

tries: list[int] = []
batches: list[list[int]] = []


@task
def remind(email: str, due: dt.date | None = None, *, polite: bool = True) -> str:
    return f"{email} {due} {polite} {type(due).__name__}"


@task(max_retries=2, backoff=3600)
def flaky(until: int) -> int:
    tries.append(current_task().attempt)
    if current_task().attempt < until:
        raise ValueError("not yet")
    return current_task().attempt


@task
async def later(n: int) -> int:
    return n + 1


@task
def unwanted() -> None:
    raise Discard("nobody wants it")


@task
def returns(what: str) -> Any:
    return {"object": object(), "number": 1}[what]


@task
def parent(n: int) -> None:
    if n:
        parent.using(priority=n).delay(n - 1)


@task
def for_ever() -> None:
    for_ever.delay()


@task(batch=2)
def doubled(calls: list[BatchCall[int]]) -> list[int]:
    batches.append([call.item for call in calls])
    return [2 * call.item for call in calls]


@task(outbox=True)
def through_outbox(n: int) -> int:
    return n


@task
def login(credentials: dict[str, str]) -> None:
    pass


crm = Breaker("crm", failures=1)


@task(circuit_breaker=crm, max_retries=0)
def push(fails: bool) -> str:
    with crm:
        if fails:
            raise OSError("the CRM is down")
    return "pushed"


@task
def meets_an_open_breaker(times: int) -> int:
    tries.append(current_task().attempt)
    if len(tries) <= times:
        raise BreakerOpen(breaker="crm", seconds=30)
    return len(tries)


@task(rate_limit="1/h", rate_limit_mode="refuse", max_concurrency=1)
def limited(n: int) -> int:
    return n
