"""The progress bar: on terminals only, and gone at the end."""

from __future__ import annotations

import io

import pytest
from django.core.management.base import OutputWrapper

from django_taskq.management.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(written: str) -> str:
    """What is left on the line, after all carriage returns."""
    line: list[str] = []
    column = 0
    for character in written:
        if character == "\r":
            column = 0
        else:
            line[column : column + 1] = character
            column += 1
    return "".join(line)


def test_on_a_terminal_it_is_drawn_and_wiped_out() -> None:
    terminal = Terminal()
    with Progress(OutputWrapper(terminal), "done", 4) as progress:
        assert screen(terminal.getvalue()) == f"done [{' ' * 30}] 0/4"
        progress._draw_at = 0
        progress.add(2)
        assert screen(terminal.getvalue()) == f"done [{'#' * 15}{' ' * 15}] 2/4"
        progress._draw_at = 0
        progress.reach(9)
        assert screen(terminal.getvalue()) == f"done [{'#' * 30}] 9/4".ljust(40)
    assert screen(terminal.getvalue()).strip() == ""
    assert "\n" not in terminal.getvalue()


def test_without_a_total_it_counts() -> None:
    terminal = Terminal()
    with Progress(OutputWrapper(terminal), "deleted") as progress:
        progress._draw_at = 0
        progress.add(1234)
        assert screen(terminal.getvalue()) == "deleted 1,234"


def test_it_is_drawn_ten_times_a_second_at_most() -> None:
    terminal = Terminal()
    with Progress(OutputWrapper(terminal), "done", 1_000_000) as progress:
        for _ in range(10_000):
            progress.add()
    assert terminal.getvalue().count("done") < 10


def test_an_interrupted_bar_is_wiped_out_too() -> None:
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(OutputWrapper(terminal), "done", 2):
        raise KeyboardInterrupt
    assert screen(terminal.getvalue()).strip() == ""


@pytest.mark.parametrize("total", [None, 0, 5])
def test_nothing_is_written_anywhere_else(total: int | None) -> None:
    pipe = io.StringIO()
    with Progress(OutputWrapper(pipe), "done", total) as progress:
        progress.add(5)
    assert pipe.getvalue() == ""
