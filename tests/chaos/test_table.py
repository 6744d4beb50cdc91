"""That the table in the documentation is the one that `make chaos` prints, of all faults, with nothing wrong in it."""

from __future__ import annotations

from collections import Counter

from tests.chaos.catalogue import load_catalogue
from tests.chaos.evidence import Report
from tests.chaos.table import HEAD, markdown
from tests.servers import ROOT


def documented() -> dict[str, dict[str, str]]:
    """Title of a fault -> its row."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    lines = page.split(f"| {' | '.join(HEAD)} |\n")[1].split("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(HEAD, row, strict=True)) for row in rows}


def number(cell: str) -> int:
    return int(cell.split()[0].replace(",", ""))


def test_every_fault_has_a_row() -> None:
    assert [*documented()] == [chaos.title for chaos in load_catalogue().values()]


def test_every_row_adds_up() -> None:
    for title, row in documented().items():
        forgotten = number(row["Lost"].partition("forgot ")[2].strip(")") or "0")
        ended = number(row["Succeeded"]) + number(row["Failed"]) + number(row["Other ends"])
        assert number(row["Accepted"]) == ended + number(row["Lost"]) + forgotten, title
        assert [row["Lost"].split()[0], row["Settled twice"], row["Unexplained"]] == ["0", "0", "0"], title


def test_a_problem_is_in_the_table() -> None:
    good = Report("kill -9", accepted=3, ends=Counter(succeeded=2, cancelled=1), recovered=1.26)
    bad = Report("kill -9", accepted=1, lost=1, repeated=2, problems=["lost: quick id-1, number 1"])
    assert markdown([good, bad]).splitlines()[2] == "| kill -9 | 2 | 4 | 2 | 0 | 1 | 1 | 0 | 2 | 1.3 s | 1 |"


def test_titles_are_unique() -> None:
    titles = Counter(chaos.title for chaos in load_catalogue().values())
    assert titles.most_common(1)[0][1] == 1
