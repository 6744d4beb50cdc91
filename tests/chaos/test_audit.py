"""The account itself: each kind of wrong must be seen, or a clean table means nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.audit import audit
from tests.chaos.evidence import Books, Fault, Report
from tests.chaos.ledger import Start


@dataclass
class Settled:
    id: str
    run: int = 1
    status: str = "succeeded"
    at: float = 12.0


def start(at: float, number: int = 1, pid: int = 10, machine: int = 0, attempt: int = 1) -> Start:
    return Start(at, number, f"id-{number}", 1, attempt, 0, pid, machine)


def sent(number: int = 1, kind: str = "quick", at: float = 1.0, **more: Any) -> list[dict[str, Any]]:
    call = {"number": number, "kind": kind, "at": at}
    return [{"what": "tries", **call}, {"what": "accepted", "id": f"id-{number}", "created": True, **call, **more}]


def books(**changes: Any) -> Books:
    """One task that was sent, ran and succeeded."""
    values: dict[str, Any] = {
        "sent": sent(), "starts": [start(2.0)], "ends": [(2.1, "id-1")], "outcomes": [Settled("id-1")],
        "rows": [("id-1", 1, "succeeded", "", 1)], "dead": [],
    }  # fmt: skip
    return Books(**{**values, **changes})


def only_problem(report: Report) -> str:
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


def test_a_clean_run_has_no_problems() -> None:
    report = audit(books(), [])
    assert report.problems == []
    assert (report.accepted, report.ends["succeeded"], report.lost, report.twice, report.repeated) == (1, 1, 0, 0, 0)


def test_an_accepted_task_without_an_end_is_lost() -> None:
    report = audit(books(rows=[], outcomes=[]), [])
    assert only_problem(report).startswith("lost: quick id-1")
    assert report.lost == 1


def test_what_redis_forgot_with_a_fault_that_makes_it_forget_is_counted_apart() -> None:
    report = audit(books(sent=sent(at=9.5), rows=[], outcomes=[]), [Fault("kill -9", 10.0, 10.2, loses=2.0)])
    assert report.problems == []
    assert (report.lost, report.forgotten, report.loss_window) == (0, 1, pytest.approx(0.5))


def test_what_was_accepted_earlier_than_redis_may_forget_is_lost() -> None:
    report = audit(books(sent=sent(at=7.5), rows=[], outcomes=[]), [Fault("kill -9", 10.0, 10.2, loses=2.0)])
    assert only_problem(report).startswith("lost: quick id-1")
    report = audit(books(sent=sent(at=11.0), rows=[], outcomes=[]), [Fault("kill -9", 10.0, 10.2, loses=2.0)])
    assert report.lost == 1


def test_two_outcomes_of_one_run() -> None:
    report = audit(books(outcomes=[Settled("id-1"), Settled("id-1")]), [])
    assert only_problem(report) == "settled 2 times: id-1 run 1"
    assert report.twice == 1


def test_a_row_that_says_otherwise_than_the_outcome() -> None:
    report = audit(books(sent=sent(kind="expires"), outcomes=[Settled("id-1", status="expired")]), [])
    assert only_problem(report) == "id-1 was settled as (1, 'expired') and recorded as (1, 'succeeded')"


def test_a_row_without_an_outcome() -> None:
    assert only_problem(audit(books(outcomes=[]), [])) == "id-1 was settled as None and recorded as (1, 'succeeded')"


def test_a_row_of_an_earlier_run() -> None:
    assert "settled as (2, 'succeeded')" in only_problem(audit(books(outcomes=[Settled("id-1", run=2)]), []))


def test_an_end_that_the_task_cannot_have() -> None:
    report = audit(books(rows=[("id-1", 1, "discarded", "", 1)], outcomes=[Settled("id-1", status="discarded")]), [])
    assert only_problem(report).startswith("quick id-1 ended as discarded")


def handed(number: int, time: float) -> dict[str, Any]:
    return {"id": f"id-{number}", "time": time, "at": 5.0}


def test_more_starts_within_a_second_than_the_rate() -> None:
    numbers = (2, 4, 6)
    rated = {
        "sent": [line for number in numbers for line in sent(number, kind="rated")],
        "starts": [start(2.0, number) for number in numbers],
        "ends": [(2.1, f"id-{number}") for number in numbers],
        "outcomes": [Settled(f"id-{number}") for number in numbers],
        "rows": [(f"id-{number}", 1, "succeeded", "", 1) for number in numbers],
    }
    kept = [handed(2, 1.0), handed(4, 1.5), handed(6, 2.0)]
    assert audit(books(**rated, handed=kept), []).problems == []
    broken = [*kept, handed(2, 2.4)]  # once more
    assert only_problem(audit(books(**rated, handed=broken), [])).startswith("3 starts of list 0 within 0.9")
    assert audit(books(**rated, handed=broken), [Fault("FLUSHALL", 3.0, 3.0, loses=9.0)]).problems == []


def test_a_paused_type_that_is_handed_over() -> None:
    halted = {
        "sent": sent(kind="halted"),
        "weather": [{"what": "paused", "time": 3.0}, {"what": "resumes", "time": 4.0}],
    }
    for time in (2.9, 4.1):
        assert audit(books(**halted, handed=[handed(1, time)]), []).problems == []
    assert "while its type was paused" in only_problem(audit(books(**halted, handed=[handed(1, 3.5)]), []))


def tick(ms: int) -> str:
    return str(uuid.UUID(int=ms << 80))


def test_a_tick_that_is_missing() -> None:
    ticks = [(tick(ms), "succeeded") for ms in (2000, 1000, 4000)]
    report = audit(books(ticks=ticks), [])
    assert only_problem(report) == "from the tick at 2000 ms to the next it is 2000 ms"
    assert report.limited["ticks"] == 3
    assert audit(books(ticks=ticks), [Fault("FLUSHALL", 3.0, 3.0, loses=9.0)]).problems == []


def test_a_tick_that_failed() -> None:
    assert "ended as failed" in only_problem(audit(books(ticks=[(tick(1000), "failed")]), []))


def test_a_failure_for_a_reason_that_its_kind_does_not_know() -> None:
    dropped = {
        "starts": [], "ends": [], "outcomes": [Settled("id-1", status="failed")], "dead": [("id-1", 1)],
        "rows": [("id-1", 1, "failed", "dropped", 0)],
    }  # fmt: skip
    assert audit(books(sent=sent(kind="displaced"), **dropped), []).problems == []
    wrong = {**dropped, "rows": [("id-1", 1, "failed", "malformed", 0)]}
    assert "failed as malformed" in only_problem(audit(books(sent=sent(kind="displaced"), **wrong), []))


def test_more_bodies_of_a_limit_than_it_has_places() -> None:
    numbers = (1, 3, 5)
    crowd = {
        "sent": [line for number in numbers for line in sent(number, kind="limited")],
        "starts": [start(2.0 + number / 10, number, pid=number) for number in numbers],
        "ends": [(3.0, f"id-{number}") for number in numbers],
        "outcomes": [Settled(f"id-{number}") for number in numbers],
        "rows": [(f"id-{number}", 1, "succeeded", "", 1) for number in numbers],
    }
    assert only_problem(audit(books(**crowd), [])) == "3 bodies of account 1 at once, at 2.50"
    assert audit(books(**crowd), [Fault("stopped", 2.2, 2.9, pids=frozenset({3}))]).problems == []
    assert audit(books(**crowd), [Fault("stopped", 2.2, 2.9, pids=frozenset({7}))]).problems != []
    others = {**crowd, "ends": [(2.4, "id-1"), (3.0, "id-3"), (3.0, "id-5")]}
    assert audit(books(**others), []).problems == []


def test_a_failure_without_its_dead_letter() -> None:
    failed = {"sent": sent(kind="fails"), "rows": [("id-1", 1, "failed", "failed", 2)],
              "outcomes": [Settled("id-1", status="failed")]}  # fmt: skip
    assert "with 0 dead letters" in only_problem(audit(books(**failed), []))
    assert audit(books(**failed, dead=[("id-1", 1)]), []).problems == []


def test_a_cancelled_task_that_succeeded_after_all() -> None:
    cancelled = [*sent(kind="cancelled"), {"what": "cancels", "number": 1, "id": "id-1", "answer": True, "at": 1.5}]
    assert "ended as succeeded" in only_problem(audit(books(sent=cancelled), []))


def test_a_repeated_start_needs_a_fault_between_the_two() -> None:
    twice = books(starts=[start(2.0), start(4.0, pid=11)])
    report = audit(twice, [])
    assert only_problem(report).startswith("started again without a reason, 2.00 s later: id-1")
    killed = Fault("kill", 3.0, 3.0, pids=frozenset({10}))
    report = audit(twice, [killed])
    assert (report.problems, report.repeated) == ([], 1)
    for unrelated in (
        Fault("another process", 3.0, 3.0, pids=frozenset({12})),
        Fault("too late", 5.0, 5.0, pids=frozenset({10})),
        Fault("too early", 1.0, 1.0, machines=frozenset({0})),
        Fault("a lost reply", 3.0, 3.0),
    ):
        assert audit(twice, [unrelated]).problems, unrelated.name


def test_a_start_after_the_end_needs_a_fault_that_reaches_it() -> None:
    late = books(outcomes=[Settled("id-1", at=1.5)])
    assert only_problem(audit(late, [])).startswith("started 0.50 s after its end: id-1")
    assert audit(late, [Fault("stopped", 1.0, 1.9, pids=frozenset({10}))]).problems == []
    assert audit(late, [Fault("stopped", 1.0, 1.9, pids=frozenset({11}))]).problems
    assert audit(late, [Fault("stopped", 1.0, 1.4, pids=frozenset({10}))]).problems


def test_a_loss_that_used_up_an_attempt() -> None:
    report = audit(books(rows=[("id-1", 1, "succeeded", "", 2)]), [])
    assert only_problem(report) == "quick id-1 ended as succeeded after 2 attempts"


def test_a_purge_may_cancel_anything() -> None:
    cancelled = books(rows=[("id-1", 1, "cancelled", "purged", 1)], outcomes=[Settled("id-1", status="cancelled")])
    assert "ended as cancelled" in only_problem(audit(cancelled, []))
    assert audit(cancelled, [Fault("purge", 1.0, 2.0, cancels=True)]).problems == []


def test_a_key_whose_second_call_is_told_of_another_task() -> None:
    again = {"what": "again", "id": "id-2", "created": False, "number": 1, "kind": "keyed", "at": 1.1}
    report = audit(books(sent=[*sent(kind="keyed"), sent()[0], again]), [])
    assert only_problem(report) == "call 1 was told of id-2, which is not its key's id-1"


def test_an_error_names_the_task_that_it_may_have_sent() -> None:
    tried = [sent()[0], {"what": "unknown", "number": 1, "kind": "quick", "at": 1.1, "id": "id-9"}]
    assert only_problem(audit(books(sent=tried), [])) == "call 1 failed as id-9 and ran as id-1"


def test_the_next_attempt_is_not_a_repeated_start() -> None:
    stumbled = books(
        sent=sent(kind="stumbles"), starts=[start(2.0), start(4.0, attempt=2)], rows=[("id-1", 1, "succeeded", "", 2)]
    )
    assert audit(stumbled, []).problems == []


def test_a_task_that_nobody_sent() -> None:
    assert only_problem(audit(books(sent=[]), [])) == "nobody was told of id-1 (call 1, succeeded)"


def test_a_producer_that_was_not_told_may_have_sent_it() -> None:
    tried = [{"what": "tries", "number": 1, "kind": "quick", "at": 1.0}]
    report = audit(books(sent=tried), [])
    assert (report.problems, report.accepted) == ([], 0)


def test_a_refused_call_must_not_have_been_sent() -> None:
    refused = [sent()[0], {"what": "refused", "number": 1, "kind": "quick", "at": 1.1}]
    assert only_problem(audit(books(sent=refused), [])).startswith("nobody was told of id-1")


def test_one_call_that_ran_as_two_tasks() -> None:
    other = start(2.0)._replace(id="id-2")
    problems = audit(books(starts=[start(2.0), other]), []).problems
    assert any(problem == "call 1 ran as 2 tasks" for problem in problems)


def test_recovery_lasts_until_the_last_task_that_was_on_its_way_has_started() -> None:
    starts = [start(2.0), start(7.0, pid=11), start(2.5, number=2), start(11.0, number=3)]
    calls = [*sent(1), *sent(2), *sent(3, at=9.0)]
    rows = [(f"id-{number}", 1, "succeeded", "", 1) for number in (1, 2, 3)]
    ends = [(7.1, "id-1"), (8.0, "id-2"), (11.1, "id-3")]
    killed = Fault("kill", 3.0, 3.5, pids=frozenset({10}))
    outcomes = [Settled(f"id-{number}") for number in (1, 2, 3)]
    run = books(sent=calls, starts=starts, rows=rows, ends=ends, outcomes=outcomes)
    assert audit(run, [killed]).recovered == pytest.approx(4.0)
    killed.until_end = True
    assert audit(run, [killed]).recovered == pytest.approx(3.5)
