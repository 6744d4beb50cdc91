"""The benchmarks run, and a run in which a task went missing is no figure. How fast they are is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.account import discrepancies
from tests.servers import ROOT, Process

TINY = ("--quick", "--rounds", "1", "--tasks", "60")
GOOD = ("succeeded", 1, 1, 0)


@pytest.mark.long
def test_it_measures_and_prints_json(tmp_path: Path) -> None:
    figures = measured(tmp_path, "--only", "drain,sending,memory,rest,metrics")
    assert [len(figures[name]) for name in ("drain", "sending", "memory", "rest", "metrics")] == [10, 2, 2, 3, 6]
    assert not [figure["name"] for of_one in figures.values() for figure in of_one if figure["median"] is None]
    assert figures["drain"][0]["ratio"] > 0


def test_a_run_with_a_task_missing_fails(tmp_path: Path) -> None:
    program = (
        "import sys, benchmarks.account as account\n"
        "account.discrepancies = lambda sent, rows, dead: ['1 were sent and not recorded']\n"
        "from benchmarks.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    code, output = python(tmp_path, "-c", program, *TINY, "--only", "coroutines")
    assert code == 1
    assert "coroutines FAILED: of 12 tasks 1 were sent and not recorded" in output


@pytest.mark.parametrize(
    ("rows", "dead", "expected"),
    [
        ([("a", *GOOD), ("b", *GOOD)], 0, []),
        ([("a", *GOOD)], 0, ["1 were sent and not recorded"]),
        ([("a", *GOOD), ("b", *GOOD), ("c", *GOOD)], 0, ["1 were recorded and never sent"]),
        ([("a", *GOOD), ("b", *GOOD), ("b", *GOOD)], 0, ["1 were recorded twice"]),
        (
            [("a", *GOOD), ("b", "failed", 1, 1, 0)],
            1,
            ["1 did not succeed at their first attempt", "1 are dead letters"],
        ),
        ([("a", *GOOD), ("b", "succeeded", 2, 1, 0)], 0, ["1 did not succeed at their first attempt"]),
    ],
)
def test_the_account_of_what_was_sent(rows: list[tuple[Any, ...]], dead: int, expected: list[str]) -> None:
    assert discrepancies({"a", "b"}, rows, dead) == expected


def test_an_unknown_benchmark_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "drain,speed"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert "speed? There are drain," in result.stderr


def python(directory: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a Python of its own: the benchmarks bring their own settings."""
    process = Process([sys.executable, *arguments], directory / "log")
    try:
        return process.wait(60), process.output()
    finally:
        process.close()


def measured(directory: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    code, output = python(directory, "-m", "benchmarks", *TINY, *arguments, "--json")
    assert code == 0, output
    return json.loads(output[output.index("{\n") :])["figures"]
