"""Exceptions as text that can be stored."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from django_taskq.middleware import around
from django_taskq.worker.failure import MESSAGE, TRACEBACK, clean, describe, shorten, text_of
from tests.worker.tasks import HOSTILE, Hopeless, hostile


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_exception_is_named_by_its_dotted_path() -> None:
    assert describe(raised(Hopeless("x")))[:2] == ("tests.worker.tasks.Hopeless", "x")
    assert describe(raised(KeyError("x")))[:2] == ("KeyError", "'x'")


def test_an_exception_that_was_never_raised_has_a_text_too() -> None:
    assert describe(ValueError("x")).traceback == "ValueError: x\n"


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("grouped", [False, True])
def test_an_exception_that_nobody_can_look_at_is_described_anyway(kind: str, grouped: bool) -> None:
    failure = describe(raised(BaseExceptionGroup("b", [hostile(kind)]) if grouped else hostile(kind)))
    assert failure.error_class == (
        "ExceptionGroup" if grouped else "<a class without a name>" if kind == "no name"
        else "tests.worker.tasks.Hostile"
    )  # fmt: skip
    assert failure.message
    assert failure.traceback


def test_a_huge_message_keeps_its_beginning_and_its_end() -> None:
    failure = describe(raised(ValueError("A" + "x" * 10_000_000 + "Z")))
    assert len(failure.message) < MESSAGE + 100
    assert (failure.message[0], failure.message[-1]) == ("A", "Z")
    assert len(failure.traceback) < TRACEBACK + 100


def test_a_deep_recursion_keeps_its_innermost_frames() -> None:
    def recurse(depth: int) -> int:
        return recurse(depth + 1)

    with pytest.raises(RecursionError) as caught:
        recurse(0)
    failure = describe(caught.value)
    assert failure.error_class == "RecursionError"
    assert len(failure.traceback) < 20_000


def test_a_chain_of_causes_is_shown() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        text = describe(error).traceback
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: second\n")


def test_text_that_utf_8_cannot_carry_is_escaped() -> None:
    assert clean("a\ud800b") == r"a\ud800b"
    assert text_of("\udfff") == r"\udfff"
    assert describe(raised(ValueError("\ud800"))).traceback.isprintable() is False
    describe(raised(ValueError("\ud800"))).traceback.encode()


def test_shortening_says_how_much_is_gone() -> None:
    assert shorten("short", 10) == "short"
    assert shorten("a" * 50 + "b" * 50, 20) == "a" * 5 + "\n... 80 characters left out ...\n" + "b" * 15


def test_the_frames_of_worker_and_middleware_around_a_task_are_left_out() -> None:
    def task(context: object, args: object, kwargs: object) -> None:
        raise ValueError("x")

    call = around(lambda context: nullcontext())(around(lambda context: nullcontext())(task))
    with pytest.raises(ValueError, match="x") as caught:
        call(None, (), {})  # type: ignore[arg-type]
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]  # of this test
    text = describe(caught.value).traceback
    assert "base.py" not in text
    assert "in task\n" in text
