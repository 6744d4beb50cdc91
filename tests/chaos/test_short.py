"""A few faults in a small load, in every run of the tests. `make chaos` has all of them, and many seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.catalogue import load_catalogue
from tests.chaos.evidence import Report
from tests.chaos.run import Run
from tests.conftest import database_url

# name of the fault -> the longest it may take until everything that was on its way has started, in seconds
SHORT = {
    "child-killed": 2.0,
    "machine-killed": 3.0 + 4.0,
    "reply-of-claim-lost": 2.0,
    "redis-killed-always": 4.0,
    "killed-at-commit.after": 2.0,
}


def run_short(name: str, directory: Path) -> Report:
    chaos = load_catalogue()[name]
    plan = replace(chaos.plan, calls=150, seconds=1.2, pace=0.4, constants={"limit": 3.0, "lease": 1.0})
    with Run(directory, database_url(), plan, seed=1) as run:
        run.start()
        chaos.act(run)
        return run.finish()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "name",
    [
        "child-killed", "machine-killed", "reply-of-claim-lost",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("redis-killed-always", "killed-at-commit.after")),
    ],
)  # fmt: skip
def test_nothing_is_lost_and_nothing_settled_twice(name: str, tmp_path: Path) -> None:
    report = run_short(name, tmp_path)
    assert report.problems == []
    assert (report.lost, report.twice) == (0, 0)
    assert report.accepted == sum(report.ends.values()) >= 150
    assert (report.recovered or 0.0) < SHORT[name]
