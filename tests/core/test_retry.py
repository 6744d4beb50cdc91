"""Backoff and the decision after a failed attempt."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from django_taskq.core.backoff import DEFAULT_BACKOFF, Exponential, Fixed, Linear, as_backoff
from django_taskq.core.retry import LONGEST_DELAY, Decision, decide
from django_taskq.exceptions import Discard, Retry, TaskTimeout

BURY, RETRY = "bury", "retry"


def decision(error: BaseException, **changes: Any) -> Decision:
    return decide(error, **{"attempt": 1, "max_retries": 3, "backoff": Fixed(5), **changes})


def test_exponential_doubles_up_to_its_maximum() -> None:
    backoff = Exponential(base=1, factor=2, maximum=600, jitter=False)
    assert [backoff(attempt) for attempt in (1, 2, 3, 4, 11)] == [1, 2, 4, 8, 600]
    assert backoff(10**9) == 600


def test_jitter_draws_from_the_upper_half() -> None:
    delays = [Exponential(base=8, jitter=True)(1) for _ in range(500)]
    assert 4 <= min(delays) < 4.5 < 7.5 < max(delays) <= 8


def test_linear_and_fixed() -> None:
    assert [Linear(step=10, maximum=25)(attempt) for attempt in (1, 2, 3)] == [10, 20, 25]
    assert [Fixed(7)(attempt) for attempt in (1, 9)] == [7, 7]


@pytest.mark.parametrize(
    ("value", "delays"),
    [
        ([1, 5, timedelta(minutes=1)], [1, 5, 60, 60]),
        ((2,), [2, 2, 2, 2]),
        (3, [3, 3, 3, 3]),
        (timedelta(seconds=1.5), [1.5, 1.5, 1.5, 1.5]),
        (lambda attempt: attempt * 100, [100, 200, 300, 400]),
        (Linear(1), [1, 2, 3, 4]),
    ],
)
def test_a_backoff_is_made_of_seconds_lists_and_callables(value: Any, delays: list[float]) -> None:
    assert [as_backoff(value)(attempt) for attempt in (1, 2, 3, 4)] == delays


@pytest.mark.parametrize("value", ["1", [], [1, -1], [1, "x"], -1, float("nan"), None, {1: 2}, True, [float("inf")]])
def test_a_backoff_that_makes_no_sense_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not|must"):
        as_backoff(value)


@pytest.mark.parametrize("make", [lambda: Exponential(base=-1), lambda: Exponential(factor=0.5), lambda: Linear(-1)])
def test_parameters_of_a_backoff_are_checked(make: Any) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        make()


def test_an_error_is_retried_until_the_retries_are_used_up() -> None:
    outcomes = [decision(ValueError(), attempt=attempt).kind for attempt in (1, 2, 3, 4, 5)]
    assert outcomes == [RETRY, RETRY, RETRY, BURY, BURY]
    assert decision(ValueError(), max_retries=0) == Decision(BURY, reason="failed")


def test_only_what_retry_on_names_is_retried() -> None:
    assert decision(KeyError(), retry_on=(LookupError,)).kind == RETRY
    assert decision(ValueError(), retry_on=(LookupError,)).kind == BURY
    assert decision(ValueError(), retry_on=()).kind == BURY


def test_discard_comes_before_any_retry() -> None:
    assert decision(Discard("gone")) == Decision("discard", reason="gone")
    assert decision(KeyError(), discard_on=(LookupError,)) == Decision("discard", reason="discard_on: KeyError")
    assert decision(TaskTimeout(), discard_on=(TaskTimeout,)).kind == "discard"


def test_retry_counts_as_a_retry_and_needs_no_retry_on() -> None:
    assert decision(Retry(delay=30), retry_on=()) == Decision(RETRY, 30)
    assert decision(Retry(delay=timedelta(minutes=1))) == Decision(RETRY, 60)
    assert decision(Retry()) == Decision(RETRY, 5)
    assert decision(Retry(delay=0)) == Decision(RETRY, 0)
    assert decision(Retry(delay=-5)) == Decision(RETRY, 0)
    assert decision(Retry(delay=30), attempt=4) == Decision(BURY, reason="failed")


@pytest.mark.parametrize("delay", ["30", float("nan"), float("inf"), [1]])
def test_retry_takes_seconds_only(delay: Any) -> None:
    with pytest.raises(TypeError, match="seconds"):
        Retry(delay=delay)


def test_a_timeout_is_a_failed_attempt() -> None:
    assert decision(TaskTimeout()).kind == RETRY
    assert decision(TaskTimeout(), attempt=4) == Decision(BURY, reason="timeout")
    assert decision(TaskTimeout(), retry_on=(ConnectionError,)) == Decision(BURY, reason="timeout")
    assert decision(TaskTimeout(), retry_on=(ConnectionError, TaskTimeout)).kind == RETRY


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), MemoryError(), RecursionError()])
def test_other_exits_are_retried_like_errors(error: BaseException) -> None:
    assert decision(error).kind == RETRY
    assert decision(error, attempt=4) == Decision(BURY, reason="failed")


def test_a_broken_backoff_does_not_lose_the_retry(caplog: pytest.LogCaptureFixture) -> None:
    def broken(attempt: int) -> float:
        raise RuntimeError("oops")

    for backoff in (broken, lambda attempt: "soon", lambda attempt: float("nan"), lambda attempt: None):
        with caplog.at_level(logging.ERROR, "django_taskq"):
            made = decision(ValueError(), backoff=backoff)
        assert made.kind == RETRY
        assert 0 <= made.delay <= DEFAULT_BACKOFF.maximum
        assert "the default is used instead" in caplog.text
        caplog.clear()


def test_a_delay_stays_within_what_a_schedule_can_hold() -> None:
    assert decision(ValueError(), backoff=lambda attempt: 1e30).delay == LONGEST_DELAY
    assert decision(Retry(delay=1e30)).delay == LONGEST_DELAY
    assert decision(ValueError(), backoff=lambda attempt: -3).delay == 0
    assert decision(ValueError(), backoff=lambda attempt: timedelta(seconds=3)).delay == 3
