"""What follows when a task raises."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.core.outcome import Outcome
from django_taskq.exceptions import TaskFailed
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger

pytestmark = pytest.mark.usefixtures("running")


def failure_of(handle: TaskHandle[Any]) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        handle.get(timeout=10)
    return caught.value


def outcome_of(handle: TaskHandle[Any]) -> Outcome:
    found = get_broker().find([handle._id])[0]
    assert found.outcome is not None
    return found.outcome


def gaps(ledger: Ledger) -> list[float]:
    times = [line["at"] for line in ledger.read()]
    return [after - before for before, after in itertools.pairwise(times)]


def test_a_failed_attempt_is_tried_again_after_its_backoff(tmp_path: Path) -> None:
    """The soonest of five: a busy machine makes attempts late, nothing makes them early."""
    ledgers = [Ledger(tmp_path / str(number)) for number in range(5)]
    for handle in [tasks.fails.delay(ledger.path, 2) for ledger in ledgers]:
        assert handle.get(timeout=10) == 3
    first, second = zip(*map(gaps, ledgers), strict=True)
    assert (min(first), min(second)) == (pytest.approx(0.1, abs=0.05), pytest.approx(0.3, abs=0.05))


def test_a_waiting_attempt_is_scheduled(ledger: Ledger) -> None:
    handle = tasks.asks_again.delay(ledger.path, 30)
    wait_for(lambda: ledger.read())
    wait_for(lambda: get_broker().find([handle._id])[0].state == "scheduled")
    assert handle.cancel() is True


def test_retry_waits_for_as_long_as_it_says_and_counts(ledger: Ledger) -> None:
    failure = failure_of(tasks.asks_again.delay(ledger.path, 0.2))
    assert gaps(ledger) == [pytest.approx(0.2, abs=0.05)]
    assert (failure.status, failure.error_class) == ("failed", "django_taskq.exceptions.Retry")
    assert failure.error_message == "later, please"


def test_a_task_out_of_retries_is_a_dead_letter_with_all_its_attempts(ledger: Ledger, running: WorkerProcess) -> None:
    handle = tasks.fails.delay(ledger.path, 99)
    failure = failure_of(handle)
    assert failure.error_class == "tests.worker.tasks.Unlucky"
    assert failure.error_message == "attempt 4"
    outcome = outcome_of(handle)
    assert (outcome.status, outcome.reason, outcome.attempts, outcome.losses) == ("failed", "failed", 4, 0)
    assert [(attempt.number, attempt.how) for attempt in outcome.history] == [
        (1, "retry"), (2, "retry"), (3, "retry"), (4, "failed"),
    ]  # fmt: skip
    lines = ledger.read()
    for attempt, line in zip(outcome.history, lines, strict=True):
        assert attempt.started == pytest.approx(line["at"], abs=0.05)
        assert attempt.started <= attempt.ended
        assert attempt.worker == running.ids[0]
        assert attempt.error_message == f"attempt {attempt.number}"
        assert "raise Unlucky" in attempt.traceback
    assert outcome.first_started == pytest.approx(lines[0]["at"], abs=0.05)
    assert outcome.started == pytest.approx(lines[3]["at"], abs=0.05)
    assert outcome.worker_ids == running.ids * 4


def test_a_traceback_shows_the_applications_frames_only(ledger: Ledger) -> None:
    traceback = failure_of(tasks.fails.using(max_retries=0).delay(ledger.path, 9)).traceback
    assert re.findall(r'File ".*/(\w+/\w+\.py)"', traceback) == ["worker/tasks.py"]
    assert "tests.worker.tasks.Unlucky: attempt 1" in traceback


def test_a_coroutines_traceback_shows_the_applications_frames_only() -> None:
    traceback = failure_of(tasks.raises_in_a_subtask.delay("nul")).traceback
    assert set(re.findall(r'File ".*/(\w+/\w+\.py)"', traceback)) == {"worker/tasks.py"}


def test_discard_ends_a_task_without_retry_and_without_dead_letter() -> None:
    handle = tasks.discards.delay("the order is gone")
    assert failure_of(handle).status == "discarded"
    outcome = outcome_of(handle)
    assert (outcome.status, outcome.reason, outcome.attempts, outcome.raw) == ("discarded", "the order is gone", 1, b"")


@pytest.mark.parametrize(
    ("kind", "status", "attempts"), [("hopeless", "discarded", 1), ("unlucky", "failed", 2), ("other", "failed", 1)]
)
def test_discard_on_and_retry_on_choose_by_the_exception(kind: str, status: str, attempts: int, ledger: Ledger) -> None:
    handle = tasks.picky.delay(ledger.path, kind)
    assert failure_of(handle).status == status
    assert len(ledger.read()) == attempts
    assert outcome_of(handle).attempts == attempts


def test_using_changes_the_number_of_retries(ledger: Ledger) -> None:
    failure_of(tasks.fails.using(max_retries=1).delay(ledger.path, 9))
    assert len(ledger.read()) == 2


def test_each_failed_attempt_is_one_readable_line(ledger: Ledger, running: WorkerProcess) -> None:
    before = len(running.output())
    handle = tasks.fails.using(max_retries=1).delay(ledger.path, 9)
    failure_of(handle)
    wait_for(lambda: "dead letter" in running.output()[before:])
    lines = [line for line in running.output()[before:].splitlines() if handle.id in line]
    assert len(lines) == 2
    name = re.escape(f"tests.worker.tasks.fails {handle.id}")
    error = r"failed: tests\.worker\.tasks\.Unlucky: attempt"
    assert re.search(rf"WARNING .*{name} attempt 1 after 0\.\d+ s {error} 1; attempt 2 of 2 in 0\.1 s$", lines[0])
    assert re.search(rf"ERROR .*{name} attempt 2 after 0\.\d+ s {error} 2; dead letter \(failed\)$", lines[1])


def test_an_expired_task_is_not_started(ledger: Ledger) -> None:
    blockers = [tasks.works.delay("/dev/null", 0.5) for _ in range(8)]
    time.sleep(0.1)
    late = tasks.works.using(expires=0.1).delay(ledger.path, 0)
    assert failure_of(late).status == "expired"
    assert ledger.read() == []
    assert outcome_of(late).attempts == 0
    for blocker in blockers:
        blocker.get(timeout=5)


def test_expires_bounds_the_first_start_and_no_retry(ledger: Ledger) -> None:
    handle = tasks.fails.using(expires=0.2).delay(ledger.path, 2)
    assert handle.get(timeout=5) == 3
