"""`@task(cron=..., every=...)`: what it takes, and what it says to what it does not take."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from django_taskq import Cron, Every, InvalidTask, task
from django_taskq.checks import check_tasks
from tests.periodic.conftest import Code


def test_short_and_long_forms(code: Code) -> None:
    [short] = code.declare(cron=" */5 *  * * * ").schedules
    assert (short.name, short.cron, short.timezone, short.args) == ("report", "*/5 * * * *", None, ())
    [long] = code.declare(
        cron=Cron(
            "30 6 * * *", timezone="Europe/Berlin", args=("x",), kwargs={"copies": 2}, jitter=timedelta(minutes=1)
        )
    ).schedules
    assert (long.timezone, long.args, long.kwargs, long.jitter) == ("Europe/Berlin", ("x",), {"copies": 2}, 60.0)
    [every] = code.declare(every=90).schedules
    assert (every.every, every.catch_up, every.overlap) == (timedelta(seconds=90), "once", True)
    [every] = code.declare(every=Every(timedelta(hours=1), catch_up="skip", overlap=False)).schedules
    assert (every.every, every.catch_up, every.overlap) == (timedelta(hours=1), "skip", False)
    assert code.declare().schedules == ()
    assert code.declare(cron=None).schedules == ()


def test_a_task_may_have_several_schedules_with_names(code: Code) -> None:
    made = code.declare(cron=["0 6 * * *", Cron("0 18 * * *", name="evening")], every=Every(60, name="often"))
    assert [schedule.name for schedule in made.schedules] == ["report", "report:evening", "report:often"]
    with pytest.raises(InvalidTask, match="two of its schedules have the same name, 'report'"):
        code.declare(cron=["0 6 * * *", "0 18 * * *"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cron": "every day"}, "Task report: option cron: 'every day' is not a cron expression: five fields"),
        ({"cron": "61 * * * *"}, "is not a cron expression: Bad minute"),
        ({"cron": "0 0 31 2 *"}, "is not a cron expression|never comes"),
        ({"cron": 5}, "a cron expression is a string"),
        ({"cron": Every(5)}, None),
        ({"cron": object()}, "must be a cron expression, Cron"),
        ({"cron": Cron("* * * * *", timezone="Mars/Olympus")}, "'Mars/Olympus' is not a time zone"),
        ({"cron": Cron("* * * * *", catch_up="twice")}, "catch_up='twice' must be 'once' or 'skip'"),
        ({"cron": Cron("* * * * *", overlap="no")}, "overlap='no' must be True or False"),
        ({"cron": Cron("* * * * *", name="a b")}, "name='a b' must be 1 to 50"),
        ({"cron": Cron("* * * * *", jitter=-1)}, "jitter must be from 0 to 86,400 seconds"),
        ({"cron": Cron("* * * * *", args="abc")}, "args must be a tuple"),
        ({"every": 0}, "option every: must be 1 second or more"),
        ({"every": 0.5}, "must be 1 second or more"),
        ({"every": True}, "it must be seconds or a timedelta"),
        ({"every": "1h"}, "it must be seconds or a timedelta, not '1h'"),
        ({"every": float("nan")}, "it must be seconds or a timedelta"),
    ],
)
def test_what_makes_no_sense_is_an_error_at_import(code: Code, options: dict[str, Any], says: str | None) -> None:
    if says is None:
        assert code.declare(**options).schedules
        return
    with pytest.raises(InvalidTask, match=says):
        code.declare(**options)


def test_without_cronsim_it_says_what_to_install(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(InvalidTask, match=r"Task report: option cron: .*pip install 'django-taskq-redis\[cron\]'"):
        code.declare(cron="3 1 4 1 5")
    assert code.declare(every=5).schedules


def test_a_call_cannot_have_a_schedule(code: Code) -> None:
    with pytest.raises(InvalidTask, match=r"unknown option 'cron'. It is decided by @task alone"):
        code.declare().using(cron="* * * * *")  # type: ignore[call-arg]


def test_arguments_that_do_not_fit_are_found_by_the_check(code: Code) -> None:
    code.declare(cron=Cron("* * * * *", kwargs={"colour": "red"}))
    [message] = check_tasks()
    assert message.id == "django_taskq.E007"
    assert "The arguments of its schedule do not fit: report" in str(message.msg)


def test_the_decorator_takes_them() -> None:
    assert task(every=60, name="tests.periodic.decorated")(_decorated).schedules[0].name == "tests.periodic.decorated"


def _decorated() -> None:
    pass


_decorated.__qualname__ = "_decorated"
