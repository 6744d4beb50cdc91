"""The options by which a task limits itself, and what `delay()` makes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_taskq import Breaker, InvalidArguments, InvalidTask, task
from django_taskq.core.fields import pack_fields
from django_taskq.core.gates import gates_in, pack_queue_gates
from django_taskq.core.message import Message
from django_taskq.models import DeadTask
from django_taskq.queue_options import QueueOptions, parse_queue
from django_taskq.rates import Rate, parse_rate
from django_taskq.requeue import Arguments, next_run
from django_taskq.task import Task
from tests.worker.limited import one_of_few


def example(account_id: int, note: str = "x", **more: int) -> None: ...


def made(**options: Any) -> Task[..., Any]:
    return Task(example, name="t", **options)


def gates(declared: Task[..., Any], *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
    assert declared.gates is not None
    return gates_in(declared.gates.of_call(args, kwargs))


@pytest.mark.parametrize(
    ("value", "count", "seconds"),
    [
        ("5/s", 5, 1), ("100/m", 100, 60), ("1000/h", 1000, 3600), ("50/d", 50, 86_400), ("3/10s", 3, 10),
        ((7, timedelta(minutes=2)), 7, 120), (" 5 / s", 5, 1),
    ],
)  # fmt: skip
def test_rates(value: Any, count: int, seconds: float) -> None:
    assert parse_rate(value) == Rate(count, seconds)
    assert parse_rate(str(parse_rate(value))) == Rate(count, seconds)


@pytest.mark.parametrize(
    "value", ["", "5", "5/", "0/s", "5/w", "-1/s", "1.5/s", 5, (0, timedelta(1)), (1, 5), "5/0s", "1/90d"]
)
def test_what_is_no_rate(value: Any) -> None:
    with pytest.raises(InvalidTask, match="option rate_limit="):
        made(rate_limit=value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_concurrency": 0}, "option max_concurrency=0"),
        ({"max_concurrency": True}, "option max_concurrency=True"),
        ({"concurrency_key": "a"}, "concurrency_key means nothing without max_concurrency"),
        ({"on_conflict": "replace"}, "on_conflict means nothing without"),
        ({"max_concurrency": 1, "on_conflict": "x"}, "must be 'wait', 'discard' or 'replace'"),
        ({"max_concurrency": 1, "concurrency_key": 5}, "must be a format string"),
        ({"max_concurrency": 1, "concurrency_key": "{x"}, "is no format string"),
        ({"max_concurrency": 1, "concurrency_key": "{acount_id}"}, "names 'acount_id', which is no parameter"),
        ({"rate_limit_key": "a"}, "rate_limit_key means nothing without rate_limit"),
        ({"rate_limit": "1/s", "rate_limit_burst": 0}, "option rate_limit_burst=0"),
        ({"rate_limit": "1/s", "rate_limit_mode": "drop"}, "must be 'wait' or 'refuse'"),
        ({"rate_limit": "1/s", "rate_limit_mode": "refuse", "outbox": True}, "the outbox sends it later"),
        ({"circuit_breaker": 5}, "must be a Breaker"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidTask, match=text):
        made(**options)


def test_limits_are_the_tasks_own() -> None:
    with pytest.raises(InvalidTask, match="It is decided by @task alone"):
        made(max_concurrency=1).using(max_concurrency=2)  # type: ignore[call-arg]


def test_keys_are_made_of_the_calls_arguments() -> None:
    declared = made(max_concurrency=2, concurrency_key="account:{account_id}:{note}")
    assert gates(declared, 7) == [("c", "task:t:account:7:x", 2, "wait")]
    assert gates(declared, account_id=8, note="y") == [("c", "task:t:account:8:y", 2, "wait")]
    by_callable = made(rate_limit="100/s", rate_limit_key=lambda account_id, **_: account_id % 10)
    assert gates(by_callable, 27, z=1)[0][:2] == ("r", "task:t:7")
    assert gates(made(max_concurrency=1), 1) == [("c", "task:t", 1, "wait")]
    assert gates(made(circuit_breaker=Breaker(cooldown=2)), 1) == [("b", "t", 2000)]


@pytest.mark.parametrize(
    "key", [lambda **_: 1 / 0, lambda **_: "", lambda **_: "a\nb", lambda **_: "x" * 256, lambda: "a"]
)
def test_a_key_that_cannot_be_made_is_the_callers_error(key: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"^t: concurrency_key"):
        gates(made(max_concurrency=1, concurrency_key=key), 1)


def test_a_task_without_limits_has_no_gates() -> None:
    assert made().gates is None
    assert task(example).gates is None


def test_limits_of_queues_come_with_the_claim() -> None:
    assert pack_queue_gates({"default": QueueOptions()}) == b""
    assert pack_queue_gates({"mail": parse_queue({"rate_limit": "10/s", "max_concurrency": 3})})
    for wrong in ({"rate_limit": "x"}, {"max_concurrency": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            parse_queue(wrong)


def test_where_the_outbox_is_the_default_no_call_can_be_refused(settings: Any) -> None:
    settings.TASKQ = {**settings.TASKQ, "OUTBOX": True}
    with pytest.raises(InvalidTask, match="the outbox sends it later"):
        made(rate_limit="1/s", rate_limit_mode="refuse")


def test_arguments_that_a_person_changed_choose_the_limits_again() -> None:
    message = Message(b"i" * 16, one_of_few.name, b'["p","a",1]', gates=one_of_few.gates.of_call(("p", "a", 1), {}))  # type: ignore[union-attr]
    dead = DeadTask(raw=pack_fields(message.fields()), queue="default", run=1)
    assert gates_in(next_run(dead).gates)[0][1].endswith(":a")
    assert gates_in(next_run(dead, Arguments(b'["p","b",1]', b"{}")).gates)[0][1].endswith(":b")
    assert gates_in(next_run(dead, Arguments(b"[]", b"{}")).gates)[0][1].endswith(":a")
