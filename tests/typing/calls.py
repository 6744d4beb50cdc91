"""What a type checker must say about tasks. Never run; test_typing.py compares mypy's errors with the comments.

`# E: text` names the error that the line before must give; every other line must be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from django_taskq import BatchCall, Breaker, Cron, Every, Exponential, TaskContext, TaskHandle, get_task, task
from django_taskq.task import AsyncTask, Task, TaskCall


@task
def welcome(user_id: int, *, template: str = "hi") -> str:
    return f"{template} {user_id}"


@task(
    queue_name="mail",
    priority=5,
    max_retries=5,
    backoff=Exponential(base=2),
    retry_on=(ConnectionError,),
    discard_on=KeyError,
    timeout=timedelta(minutes=1),
    record="failures",
)
def report(days: list[int]) -> dict[str, float]:
    return {str(day): 1.0 for day in days}


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(timeout=5)
async def fetch_many(*urls: str, limit: int = 3) -> list[bytes]:
    return [url.encode() for url in urls][:limit]


@task(takes_context=True)
def informed(context: TaskContext, user_id: int) -> int:
    return user_id


@task(takes_context=True, max_retries=1)
async def ainformed(context: TaskContext, user_id: int) -> str:
    return str(user_id)


@dataclass
class Visit:
    path: str


@task(batch=100, batch_timeout=timedelta(seconds=2), queue_name="mail")
def record_visits(calls: list[BatchCall[Visit]]) -> None: ...


@task(batch=100)
def push(calls: list[BatchCall[int]]) -> list[str | Exception]:
    return [str(call.item) for call in calls]


@task(batch=10, batch_timeout=0.5)
async def apush(calls: list[BatchCall[int]]) -> list[str]:
    return [str(call.item) for call in calls]


@task(cron="*/5 * * * *", every=timedelta(hours=1))
def tidy() -> int:
    return 0


@task(
    cron=[Cron("30 6 * * MON-FRI", timezone="Europe/Berlin", args=("sales",)), Cron("0 7 1 * *", name="month")],
    every=Every(60, jitter=5),
    expires=50,
)
async def send_report(kind: str = "month") -> None: ...


@task(
    rate_limit="100/m",
    rate_limit_key="user:{user_id}",
    rate_limit_burst=3,
    rate_limit_mode="refuse",
    max_concurrency=1,
    concurrency_key=lambda user_id, **_: user_id % 10,
    on_conflict="replace",
    fair_key="{user_id}",
    circuit_breaker=Breaker("crm", failures=5, within=60, cooldown=timedelta(seconds=30)),
    deadline=3600,
    outbox=True,
    api=True,
    row_gone="discard",
)
def push_user(user_id: int) -> str:
    return str(user_id)


# --- what a task is ---------------------------------------------------------------------------------------------------

welcome_task: Task[..., str] = welcome
fetch_task: AsyncTask[..., bytes] = fetch
call: TaskCall[..., str] = welcome.using(priority=1)

# --- right calls and what they give -----------------------------------------------------------------------------------

assert_type(welcome(7), str)
assert_type(welcome.delay(7, template="x"), TaskHandle[str])
assert_type(welcome.enqueue(7), TaskHandle[str])
assert_type(welcome.delay_on_commit(7), TaskHandle[str])
assert_type(welcome.delay_many([((7,), {})]), list[TaskHandle[str]])
assert_type(welcome.using(priority=3, run_after=60).delay(7), TaskHandle[str])
assert_type(welcome.using(priority=3).using(expires=timedelta(1)).delay_on_commit(7), TaskHandle[str])
assert_type(welcome.delay(7).get(timeout=1), str)
assert_type(report.delay([1]).get(), dict[str, float])
assert_type(fetch.delay("u").get(), bytes)
assert_type(fetch_many.delay("u", "v", limit=3).get(), list[bytes])
assert_type(informed.delay(7).get(), int)
assert_type(informed(7), int)
assert_type(ainformed.using(priority=1).delay(user_id=7).get(), str)
assert_type(record_visits.delay(Visit("/")), TaskHandle[Any])
assert_type(push.delay(7).get(), str)
assert_type(push.using(priority=3).delay(7).get(), str)
assert_type(push(7), str)
assert_type(apush.delay(7).get(), str)
assert_type(tidy.delay().get(), int)
assert_type(tidy(), int)
assert_type(send_report.delay("sales"), TaskHandle[None])
assert_type(push_user.using(deadline=timedelta(hours=1), inherit_deadline=True, enqueue_timeout=2).delay(7).get(), str)
assert_type(push_user.using(database="billing").delay_on_commit(7), TaskHandle[str])
assert_type(push_user.using(idempotency_key="k", idempotency_ttl=60, record="all", hard_timeout=9).delay(7).get(), str)
assert_type(welcome.delay(7).created, bool)
status: str = welcome.delay(7).status
assert_type(welcome.delay(7).refresh(), None)
assert_type(welcome.delay(7).id, str)
assert_type(welcome.delay(7).cancel(), bool | None)


async def in_a_coroutine() -> None:
    assert_type(await welcome.adelay(7), TaskHandle[str])
    assert_type(await (await fetch.aenqueue("u")).aget(timeout=3), bytes)
    assert_type(await fetch("u"), bytes)
    assert_type(await ainformed(7), str)
    assert_type(await welcome.using(priority=1).adelay(7), TaskHandle[str])
    assert_type(await send_report(), None)
    assert_type(await push.adelay(7), TaskHandle[str])
    assert_type(await (await welcome.adelay(7)).acancel(), bool | None)
    with Breaker("crm", failures=5, within=60, cooldown=30):
        pass
    async with Breaker("crm", failures=5, within=60, cooldown=30):
        pass
    await welcome.adelay("7")
    # E: [arg-type]


handle: TaskHandle[object] = welcome.delay(7)  # a handle of a str is a handle of an object
anything = get_task(handle.id).get()

# --- wrong calls ------------------------------------------------------------------------------------------------------

welcome.delay("7")
# E: Argument 1 to "delay" of "Sender" has incompatible type "str"; expected "int"
welcome.delay()
# E: Missing positional argument "user_id"
welcome.delay(7, "x")
# E: Too many positional arguments
welcome.delay(7, template=3)
# E: [arg-type]
welcome.delay(7, colour="red")
# E: Unexpected keyword argument "colour"
welcome.enqueue("7")
# E: [arg-type]
welcome.delay_on_commit()
# E: Missing positional argument "user_id"
welcome.using(priority=1).delay("7")
# E: [arg-type]
welcome("7")
# E: [arg-type]
informed.delay("7")
# E: [arg-type]
informed.delay(7, 8)
# E: Too many arguments
ainformed.delay("7")
# E: [arg-type]
fetch.delay(7)
# E: [arg-type]
welcome.delay_many([(7,)])
# E: [list-item]
record_visits.delay("/")
# E: Argument 1 to "delay" of "Sender" has incompatible type "str"; expected "Visit"
push.delay(7, 8)
# E: Too many arguments
tidy.delay(1)
# E: Too many arguments
send_report.delay(1)
# E: [arg-type]
push_user.delay("7")
# E: [arg-type]
text: int = welcome.delay(7).get()
# E: Incompatible types in assignment (expression has type "str"

# --- wrong options ----------------------------------------------------------------------------------------------------

welcome.using(queue="mail")
# E: Unexpected keyword argument "queue" for "using"
welcome.using(backoff=[1])
# E: Unexpected keyword argument "backoff"
welcome.using(priority="high")
# E: Argument "priority" to "using" of "Task" has incompatible type "str"; expected "int"
welcome.using(record="none")
# E: [arg-type]
task(max_retry=3)
# E: [call-overload]
task(timeout="1")
# E: [call-overload]
task(cron=5)
# E: [call-overload]
task(rate_limit=100)
# E: [call-overload]
task(rate_limit_mode="drop")
# E: [call-overload]
task(on_conflict="refuse")
# E: [call-overload]
task(circuit_breaker="crm")
# E: [call-overload]
task(outbox="yes")
# E: [call-overload]
task(database="default")
# E: [call-overload]
push_user.using(rate_limit="1/s")
# E: Unexpected keyword argument "rate_limit"
push_user.using(outbox=False)
# E: Unexpected keyword argument "outbox"
push_user.using(deadline="soon")
# E: [arg-type]
