"""What a sweep says of what keeps it from its work, and how long it waits."""

from __future__ import annotations

import logging

import pytest

from django_taskq.setbacks import Setbacks


def new_setbacks() -> Setbacks:
    return Setbacks(logging.getLogger("django_taskq.worker"), "sweep", first=0.5, last=3.0)


def test_each_pause_is_twice_the_one_before_up_to_the_last_and_success_begins_anew() -> None:
    setbacks = new_setbacks()
    assert [setbacks.met(OSError("gone"), "away") for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    setbacks.over()
    assert setbacks.met(OSError("gone"), "away") == 0.5


def test_what_is_away_is_said_once_until_it_is_something_else_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    setbacks = new_setbacks()
    for error in (OSError("gone"), OSError("still gone"), ValueError("other"), OSError("gone again")):
        setbacks.met(error, "nothing moves")
    setbacks.over()
    setbacks.over()
    assert [record.getMessage() for record in caplog.records] == [
        "sweep: nothing moves, trying again: gone",
        "sweep: nothing moves, trying again: other",
        "sweep: nothing moves, trying again: gone again",
        "sweep: it works again after 4 failed attempts",
    ]


def test_a_fault_of_our_own_is_told_ever_more_seldom_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    setbacks = new_setbacks()
    for number in range(9):
        setbacks.met(ValueError(str(number)))
    told = [int(str(record.exc_info[1])) + 1 for record in caplog.records if record.exc_info]
    assert told == [1, 2, 4, 8]
