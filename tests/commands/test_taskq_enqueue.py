"""taskq_enqueue: from a shell and from cron."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator

import pytest
from django.core.management.base import CommandError

from django_taskq.testing import assert_enqueued, enqueued, override_taskq
from tests.commands.conftest import run
from tests.testing import tasks

REMIND, FLAKY = "tests.testing.tasks.remind", "tests.testing.tasks.flaky"


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    with override_taskq(MODE="collect", QUEUES={"default": {}, "mail": {}}):
        yield


def test_it_sends_what_the_words_say() -> None:
    done = run(
        "taskq_enqueue", REMIND, "--args", '["ada@example.com"]', "--kwargs", '{"due": "2026-12-01"}',
        "--queue", "mail", "--priority", "-3", "--run-after", "60", "--idempotency-key", "k",
    )  # fmt: skip
    (sent,) = assert_enqueued(
        tasks.remind, args=("ada@example.com", dt.date(2026, 12, 1)), queue_name="mail", priority=-3, run_after=60
    )
    assert (done.code, done.out) == (0, f"{sent.id}\n")
    again = run("taskq_enqueue", REMIND, "--args", '["ada@example.com"]', "--idempotency-key", "k")
    assert again.out == done.out
    assert "nothing was sent" in again.err
    run("taskq_enqueue", REMIND, "--args", '["x"]', "--run-after", "2030-01-01T00:00:00+00:00")
    assert enqueued()[-1].run_after == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tests.testing.tasks.remnd"], "Did you mean 'tests.testing.tasks.remind'"),
        ([REMIND, "--args", "[ada]"], "--args is not JSON"),
        ([REMIND, "--args", "{}"], "--args takes a JSON array"),
        ([REMIND, "--kwargs", "[]"], "--kwargs takes a JSON object"),
        ([REMIND, "--args", "[]"], "missing a required argument: 'email'"),
        ([REMIND, "--args", "[7]"], "email"),
        ([REMIND, "--args", '["x"]', "--queue", "post"], "queue 'post' is not declared"),
        ([REMIND, "--args", '["x"]', "--priority", "1000"], "priority"),
        ([REMIND, "--args", '["x"]', "--run-after", "soon"], "--run-after takes seconds"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_sent(words: list[str], why: str) -> None:
    with pytest.raises(CommandError) as refused:
        run("taskq_enqueue", *words)
    assert why in str(refused.value)
    assert refused.value.returncode == 1
    assert enqueued() == []


def test_waiting_tells_how_it_ended() -> None:
    assert run("taskq_enqueue", FLAKY, "--args", "[1]", "--wait", "0").code == 4
    with override_taskq(MODE="eager"):
        done = run("taskq_enqueue", FLAKY, "--args", "[2]", "--wait", "5")
        assert (done.code, done.out.splitlines()[1]) == (0, "2")
        done = run("taskq_enqueue", FLAKY, "--args", "[9]", "--wait", "5", "--json")
        assert (done.code, done.json["status"]) == (3, "failed")
        assert "ValueError: not yet" in done.json["error"]
        done = run("taskq_enqueue", "tests.testing.tasks.unwanted", "--wait", "5")
        assert (done.code, "nobody wants it" in done.err) == (3, True)
        done = run("taskq_enqueue", "tests.testing.tasks.returns", "--args", '["object"]', "--wait", "5")
        assert (done.code, "could not be stored" in done.err) == (0, True)
    assert json.loads(run("taskq_enqueue", FLAKY, "--args", "[1]", "--json").out)["created"] is True
