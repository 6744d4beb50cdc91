"""Recorded calls as Python: what is pasted into a shell makes the same call."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from django_taskq import task
from django_taskq.admin import python_call as module
from django_taskq.admin.python_call import python_call
from tests.sampleapp.tasks import add


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    width: int
    colour: Colour


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


class Pair(NamedTuple):
    left: int
    right: int


@task
def paint(
    when: dt.datetime, price: Decimal, id: UUID, boxes: list[Box], *, point: Point, pair: Pair, raw: bytes, **more: Any
) -> None: ...


CALL = (
    b'["2026-03-01T12:00:00Z","1.50","00000000-0000-0000-0000-000000000007",[{"width":1,"colour":"red"}]]',
    b'{"point":{"x":1.5},"pair":[1,2],"raw":"aGk=","not-a-name":{"a":[true,null]}}',
)


def test_it_makes_the_same_call() -> None:
    text = python_call(paint.name, *(part.decode() for part in CALL))
    made: list[Any] = []

    class Recorder:
        @staticmethod
        def delay(*args: Any, **kwargs: Any) -> None:
            made.append((args, kwargs))

    *imports, call = text.splitlines()
    assert f"from {__name__} import paint" in imports
    names: dict[str, Any] = {"Box": Box, "Colour": Colour, "Point": Point, "Pair": Pair}
    exec("\n".join(line for line in imports if __name__ not in line), names)
    exec(call, names | {"paint": Recorder})
    assert made == [paint.bind(*CALL)]
    assert paint.codec.encode(*made[0]) == (CALL[0], CALL[1].replace(b'{"x":1.5}', b'{"x":1.5,"y":0.0}'))


def test_a_simple_call_is_two_lines() -> None:
    assert python_call(add.name, "[1]", '{"b":2}') == "from tests.sampleapp.tasks import add\n\nadd.delay(1, b=2)"


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected"),
    [
        ("shop.tasks.gone", '["x",null]', "{}", "from shop.tasks import gone\n\ngone.delay('x', None)"),
        (add.name, '["no number"]', "{}", "from tests.sampleapp.tasks import add\n\nadd.delay('no number')"),
        (add.name, "no JSON", "{}", ""),
        (add.name, "{}", "{}", ""),
        (add.name, "[]", "[]", ""),
        (add.name, f'["{"x" * module.LONGEST}"]', "{}", ""),
        ("send", "[]", "{}", "from ... import send\n\nsend.delay()"),
        ("", "[]", "{}", ""),
        ("os import system; system('ls') #.x", "[]", "{}", ""),
        ("shop.class", "[]", "{}", ""),
        ("shop.send", "[]", '{"class":1,"to":2}', "from shop import send\n\nsend.delay(to=2, **{'class': 1})"),
    ],
)
def test_what_does_not_fit_is_shown_as_it_is_or_not_at_all(name: str, args: str, kwargs: str, expected: str) -> None:
    assert python_call(name, args, kwargs) == expected


def test_what_is_nested_deeply_is_shown_whole_or_not_at_all() -> None:
    """How deep is too deep is Python's own affair."""
    nested = "[" * 9000 + "]" * 9000
    assert python_call(add.name, nested, "{}") in {
        "",
        f"from tests.sampleapp.tasks import add\n\nadd.delay({nested[1:-1]})",
    }


def test_redacted_values_are_pointed_out() -> None:
    text = python_call("shop.log_in", "[]", '{"password":"[redacted]"}')
    assert text.splitlines()[-2:] == [
        "# [redacted]: its value is not in the records", "log_in.delay(password='[redacted]')"
    ]  # fmt: skip
