"""taskq_prune: records deleted now, by the settings or by options."""

from __future__ import annotations

import datetime as dt

import pytest
from django.core.management.base import CommandError
from django.utils import timezone

from django_taskq.models import DeadTask, TaskResult
from tests.commands.conftest import record, run
from tests.records.outcomes import failed, succeeded

pytestmark = pytest.mark.django_db


def ago(days: float) -> float:
    return (timezone.now() - dt.timedelta(days=days)).timestamp()


@pytest.fixture(autouse=True)
def records() -> None:
    record(*(succeeded(finished=ago(days)) for days in (0.5, 3, 8)))
    record(*(failed(finished=ago(days)) for days in (3, 50, 100)))


def left() -> tuple[int, int]:
    return TaskResult.objects.count(), DeadTask.objects.count()


@pytest.mark.parametrize(
    ("options", "results", "dead"),
    [
        ([], 4, 2),
        (["--days", "1"], 3, 2),
        (["--days", "0.1", "--failed-days", "60"], 2, 2),
        (["--failed-days", "10"], 3, 1),
        (["--max-rows", "1"], 1, 2),
        (["--days", "0", "--failed-days", "0"], 0, 0),
    ],
)
def test_options_overrule_the_settings(options: list[str], results: int, dead: int) -> None:
    result = run("taskq_prune", *options)
    assert left() == (results, dead)
    assert result.out == f"{6 - results} results and {3 - dead} dead letters are deleted.\n"
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("option", [["--days", "-1"], ["--days", "1e9"], ["--failed-days", "x"], ["--max-rows", "1.5"]])
def test_wrong_options_delete_nothing(option: list[str]) -> None:
    with pytest.raises(CommandError, match=rf"argument {option[0]}: '{option[1]}' must be"):
        run("taskq_prune", *option)
    assert left() == (6, 3)
