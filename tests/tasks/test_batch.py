"""Batch tasks as they are declared, called and concluded, without a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any, Optional

import pytest

from django_taskq import BatchCall, Discard, InvalidArguments, InvalidBatchResult, InvalidTask, Task, TaskqError, task
from django_taskq.batch import BatchCodec, ends_of
from django_taskq.registry import _tasks


@dataclass
class Visit:
    user_id: int
    day: date


@pytest.fixture(autouse=True)
def forget_tasks() -> Any:
    known = dict(_tasks)
    yield
    _tasks.clear()
    _tasks.update(known)


def declared(function: Any, name: str = "batched", **options: Any) -> Task[..., Any]:
    """`@task(batch=10)` on a function that is not at the top of a module."""
    function.__qualname__ = name
    made: Task[..., Any] = task(**{"batch": 10, **options})(function)
    return made


def by_items(calls: list[BatchCall[Visit]]) -> list[str | Exception]:
    return [f"{call.item.user_id} on {call.item.day}" for call in calls]


def test_a_call_has_one_item_of_the_type_in_the_hint() -> None:
    batched = declared(by_items)
    sent = batched.codec.encode((Visit(7, date(2026, 11, 27)),), {})
    assert sent == (b'[{"user_id":7,"day":"2026-11-27"}]', b"{}")
    assert batched.bind(*sent) == ((Visit(7, date(2026, 11, 27)),), {})
    assert batched.bind(b"[]", b'{"item":{"user_id":7,"day":"2026-11-27"}}')[1] == {
        "item": Visit(7, date(2026, 11, 27))
    }


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'item'"),
        ((Visit(1, date.min), 2), {}, "too many positional arguments"),
        (([Visit(1, date.min)],), {}, "item"),
        (({"user_id": "x"},), {}, "item"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArguments, match=problem):
        declared(by_items).codec.encode(args, kwargs)


def test_without_a_hint_an_item_is_plain_json() -> None:
    def bare(calls):  # type: ignore[no-untyped-def]
        return None

    batched = declared(bare)
    assert batched.bind(*batched.codec.encode(([1, "x"],), {})) == (([1, "x"],), {})
    with pytest.raises(InvalidArguments):
        batched.codec.encode((Visit(7, date.min),), {})


def none(calls: list[BatchCall[int]]) -> None: ...
def plain(calls: list[BatchCall[int]]) -> list[date]: ...  # type: ignore[empty-body]
def or_error(calls: list[BatchCall[int]]) -> list[date | ValueError]: ...  # type: ignore[empty-body]
def optional(calls: list[BatchCall[int]]) -> list[Optional[date] | Exception]: ...  # type: ignore[empty-body]  # noqa: UP045
def errors(calls: list[BatchCall[int]]) -> tuple[Exception, ...]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "hint"), [(plain, date), (or_error, date), (optional, date | None), (none, Any), (errors, type(None))]
)
def test_the_result_of_a_call_is_one_of_the_list_without_the_errors(function: Any, hint: Any) -> None:
    assert BatchCodec("batched", function).result.hint == hint


def wrong_hint(calls: list[int]) -> None: ...
def wrong_kind(calls: BatchCall[int]) -> None: ...
def unresolved(calls: "list[BatchCall[Nowhere]]") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize("function", [wrong_hint, wrong_kind, unresolved])
def test_a_hint_that_is_no_list_of_calls_is_refused(function: Any) -> None:
    with pytest.raises(InvalidTask, match="batched"):
        declared(function).verify()


@pytest.mark.parametrize("options", [
    {"batch": 0}, {"batch": 1_001}, {"batch": True}, {"batch": "5"}, {"batch_timeout": -1}, {"batch_timeout": 4_000},
    {"batch": None, "batch_timeout": 1}, {"takes_context": True},
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match="batch"):
        declared(by_items, **options)


def test_neither_a_call_nor_a_default_makes_a_batch(settings: Any) -> None:
    with pytest.raises(InvalidTask, match="decided by @task alone"):
        declared(by_items).using(batch=3)  # type: ignore[call-arg]
    settings.TASKQ = {**settings.TASKQ, "TASK_DEFAULTS": {"batch_timeout": 3}}
    with pytest.raises(InvalidTask, match="batch_timeout"):
        declared(by_items, name="another")


def test_a_function_with_other_parameters_is_refused() -> None:
    def two(calls: list[BatchCall[int]], more: int) -> None: ...
    def no(*, calls: list[BatchCall[int]]) -> None: ...

    for function in (two, no):
        with pytest.raises(InvalidTask, match="takes one argument, a list of calls"):
            declared(function)


def test_called_here_a_batch_task_runs_a_batch_of_one() -> None:
    assert declared(by_items)(Visit(7, date(2026, 11, 27))) == "7 on 2026-11-27"

    async def fails(calls: list[BatchCall[int]]) -> None:
        calls[0].fail(Discard(f"not {calls[0].item}"))

    with pytest.raises(Discard, match="not 3"):
        asyncio.run(declared(fails, name="fails")(3))


def calls(count: int) -> list[BatchCall[int]]:
    return [BatchCall(number) for number in range(count)]


def test_a_batch_that_returns_nothing_has_succeeded() -> None:
    assert ends_of(calls(2), None, None) == [(None, None), (None, None)]


def test_an_error_in_the_list_is_the_failure_of_its_call() -> None:
    error = ValueError()
    assert ends_of(calls(3), [1, error, None], None) == [(1, None), (None, error), (None, None)]


def test_an_error_that_is_raised_is_everybodys_but_theirs_who_were_told() -> None:
    three, own, raised = calls(3), KeyError(), ConnectionError()
    three[0].succeed("done")
    three[1].fail(own)
    assert ends_of(three, None, raised) == [("done", None), (None, own), (None, raised)]


def test_what_a_call_was_told_last_comes_before_what_is_returned() -> None:
    two = calls(2)
    two[0].fail(ValueError())
    two[0].succeed("after all")
    assert ends_of(two, ["x", "y"], None) == [("after all", None), ("y", None)]


@pytest.mark.parametrize("returned", [[], [1], [1, 2, 3], 2, {1, 2}, "ab", iter([1, 2])])
def test_a_result_that_is_not_one_for_each_call_fails_all(returned: Any) -> None:
    for result, error in ends_of(calls(2), returned, None):
        assert result is None
        assert isinstance(error, InvalidBatchResult)


def test_a_call_that_a_test_made_has_an_item_and_no_context() -> None:
    call = BatchCall("x")
    assert (call.item, call.id, call.attempt, call.error) == ("x", "", 1, None)
    with pytest.raises(TaskqError, match="context"):
        _ = call.context


def test_fail_takes_an_exception() -> None:
    with pytest.raises(TypeError, match="exception"):
        BatchCall(1).fail("no")  # type: ignore[arg-type]
