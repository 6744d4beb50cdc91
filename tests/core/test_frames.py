"""Frames of formatted tracebacks, as Python makes them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

import pytest

from django_taskq.core.frames import Frame, frames_of
from tests.records.outcomes import TRACEBACK


def formatted(act: Callable[[], object]) -> str:
    try:
        act()
    except BaseException:
        return traceback.format_exc()
    raise AssertionError


def test_each_frame_has_its_place_and_its_line_of_code() -> None:
    assert frames_of(TRACEBACK) == [
        Frame("/srv/releases/41/shop/mail.py", 12, "send", "connection.send(message)"),
        Frame("/usr/lib/python3.11/smtplib.py", 805, "sendmail", "raise SMTPServerDisconnected"),
    ]
    assert [frame.is_own for frame in frames_of(TRACEBACK)] == [True, False]


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("C:\\app\\shop\\mail.py", True),
        ("C:\\venv\\site-packages\\x.py", False),
        ("/venv/lib/python3.12/json/decoder.py", False),
        ("/app/django_taskq/worker/executor.py", False),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_libraries_python_and_this_package_are_not_the_applications(path: str, own: bool) -> None:
    assert Frame(path, 1, "f", "").is_own is own


def test_marks_below_the_code_are_no_code() -> None:
    text = formatted(lambda: json.loads("{") + 1)
    codes = [frame.code for frame in frames_of(text)]
    assert codes[0] == "act()"
    assert 'json.loads("{")' in codes[1]
    assert not any("^" in code for code in codes)


def test_the_error_that_was_raised_counts_not_what_led_to_it() -> None:
    def second() -> None:
        try:
            json.loads("{")
        except ValueError as error:
            raise RuntimeError("second") from error

    assert [frame.function for frame in frames_of(formatted(second))][-1].endswith("second")


def test_text_that_is_no_traceback_has_no_frames() -> None:
    for text in ("", "nonsense", 'File "x", line y, in z', "Traceback (most recent call last):"):
        assert frames_of(text) == []


def test_a_frame_without_its_source_has_no_code() -> None:
    assert frames_of('  File "/app/x.py", line 3, in f\n  File "/app/y.py", line 4, in g\nKeyError: 1\n') == [
        Frame("/app/x.py", 3, "f", ""),
        Frame("/app/y.py", 4, "g", ""),
    ]
