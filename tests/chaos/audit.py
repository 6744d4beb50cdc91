"""The account after a run: four books side by side, and every difference between them that a fault does not explain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tests.chaos.audit_of_limits import check_limits
from tests.chaos.evidence import Books, Fault, Report
from tests.chaos.ledger import Start
from tests.chaos.load import KINDS
from tests.chaos.tasks import TICK

NOTED_LATE = 0.1  # seconds
PLAIN_KINDS = {name for name, kind in KINDS.items() if kind.plain}


def audit(books: Books, faults: list[Fault]) -> Report:
    """Compares everything with everything."""
    report = Report()
    loses = [fault for fault in faults if fault.loses]
    accepted, doubtful = _promises(books, report)
    _add_unrecorded(books, accepted, report)
    ends = {id: status for id, _, status, _, _ in books.rows}
    report.accepted = len(accepted)
    report.ends = Counter(ends[id] for id in accepted if id in ends)
    report.retried = sum(attempts > 1 for id, _, _, _, attempts in books.rows if id in accepted)
    _check_missing(accepted, ends, loses, report)
    _check_strays(books, accepted, doubtful, ends, report)
    _check_ends(books, accepted, faults, report)
    _check_settlements(books, report, forgot=bool(loses))
    _check_starts(books, faults, report)
    _check_late_starts(books, faults, report)
    check_limits(books, faults, report)
    report.recovered = _recovery(books, accepted, faults)
    return report


def _promises(books: Books, report: Report) -> tuple[dict[str, dict[str, Any]], set[int]]:
    """Accepted calls by id; numbers of calls whose producer was not told what became of them."""
    accepted: dict[str, dict[str, Any]] = {}
    tried: Counter[int] = Counter()
    owner: dict[int, str] = {}
    for line in books.sent:
        number = line["number"]
        if line["what"] == "tries":
            tried[number] += 1
        elif line["what"] in {"accepted", "again", "refused"}:
            tried[number] -= 1
        if line["what"] == "accepted" or (line["what"] == "again" and line["created"]):
            accepted[line["id"]] = line
            owner[number] = line["id"]
        elif line["what"] == "again" and line["id"] != owner.get(number, line["id"]):
            report.problems.append(f"call {number} was told of {line['id']}, which is not its key's {owner[number]}")
    for number, count in Counter(line["number"] for line in accepted.values()).items():
        if count > 1:
            report.problems.append(f"call {number} was accepted as {count} tasks")
    return accepted, {number for number, count in tried.items() if count > 0}


def _check_missing(accepted: dict[str, Any], ends: dict[str, str], loses: list[Fault], report: Report) -> None:
    """Without an end: lost, unless Redis may have forgotten it."""
    for id in accepted.keys() - ends.keys():
        call = accepted[id]
        spans = [_span(call, fault) for fault in loses if _span(call, fault) <= fault.loses]
        if spans:
            report.forgotten += 1
            report.loss_window = max(report.loss_window or 0.0, min(spans))
        else:
            report.lost += 1
            report.problems.append(f"lost: {call['kind']} {id}, number {call['number']}")


def _add_unrecorded(books: Books, accepted: dict[str, dict[str, Any]], report: Report) -> None:
    """A success that asked for no row has none; the outcome stream answers for it."""
    wanted = {id for id, call in accepted.items() if call["kind"] == "unrecorded"}
    for id, _, status, _, _ in books.rows:
        if id in wanted and status == "succeeded":
            report.problems.append(f"{id} was to leave no row")
    for outcome in books.outcomes:
        if outcome.id in wanted and outcome.status == "succeeded":
            books.rows.append((outcome.id, outcome.run, outcome.status, "", 1))


def _check_strays(
    books: Books, accepted: dict[str, Any], doubtful: set[int], ends: dict[str, str], report: Report
) -> None:
    """Whatever ran or ended belongs to a call, and one call is one task: the one that an error named, if one did."""
    number_of = {start.id: start.number for start in books.starts if start.number != TICK}
    named = {line["number"]: line["id"] for line in books.sent if line["what"] == "unknown" and line.get("id")}
    for id in (ends.keys() | number_of.keys()) - accepted.keys():
        if number_of.get(id) not in doubtful and (id in number_of or not doubtful):
            report.problems.append(f"nobody was told of {id} (call {number_of.get(id)}, {ends.get(id)})")
    ids_of: defaultdict[int, set[str]] = defaultdict(set)
    for id, number in number_of.items():
        ids_of[number].add(id)
        if id not in accepted and named.get(number, id) != id:
            report.problems.append(f"call {number} failed as {named[number]} and ran as {id}")
    for number, ids in ids_of.items():
        if len(ids) > 1:
            report.problems.append(f"call {number} ran as {len(ids)} tasks")


def _check_ends(books: Books, accepted: dict[str, dict[str, Any]], faults: list[Fault], report: Report) -> None:
    """Each kind of task ends in the ways that it can end, after as many attempts, and a failure has its dead letter."""
    forgot = any(fault.loses for fault in faults)
    purged = frozenset({"cancelled"} if any(fault.cancels for fault in faults) else ())
    starts_of = Counter(start.id for start in books.starts)
    answers = {line["id"]: line["answer"] for line in books.sent if line["what"] == "cancels"}
    if not forgot:
        for id, answer in answers.items():
            if answer == "not found":
                report.problems.append(f"{id} was accepted, and not found when it was cancelled")
    dead = Counter(books.dead)
    for id, run, status, reason, attempts in books.rows:
        if id not in accepted:
            continue
        kind = accepted[id]["kind"]
        allowed = KINDS[kind].ends | purged
        if answers.get(id) is True and not forgot:
            allowed = frozenset({"cancelled"})
        if reason != "worker_lost" or starts_of[id] < 2:
            report.problems += [f"{kind} {id} {wrong}" for wrong in _wrongs(kind, allowed, status, reason, attempts)]
        if status == "failed" and dead[id, run] != 1:
            report.problems.append(f"{kind} {id} failed in run {run} with {dead[id, run]} dead letters")
    for (id, run), count in dead.items():
        if count > 1:
            report.problems.append(f"{id} run {run} has {count} dead letters")


def _wrongs(kind: str, allowed: frozenset[str], status: str, reason: str, attempts: int) -> Iterator[str]:
    if status not in allowed:
        yield f"ended as {status} ({reason}), not as {', '.join(sorted(allowed))}"
    elif attempts not in KINDS[kind].attempts and status in {"succeeded", "failed"}:
        yield f"ended as {status} after {attempts} attempts"
    if status == "failed" and reason not in KINDS[kind].reasons:
        yield f"failed as {reason}"


def _check_settlements(books: Books, report: Report, *, forgot: bool) -> None:
    """One outcome for each id and run, and the rows agree with them."""
    settled = Counter((outcome.id, outcome.run) for outcome in books.outcomes)
    for (id, run), count in settled.items():
        if count > 1:
            report.twice += 1
            report.problems.append(f"settled {count} times: {id} run {run}")
    if forgot:
        return  # a row may stem from an outcome that Redis has forgotten, and the task run to another
    last = {}
    for outcome in sorted(books.outcomes, key=lambda outcome: outcome.run):
        last[outcome.id] = outcome.run, outcome.status
    for id, run, status, _, _ in books.rows:
        if last.get(id) != (run, status):
            report.problems.append(f"{id} was settled as {last.get(id)} and recorded as {(run, status)}")


def _check_starts(books: Books, faults: list[Fault], report: Report) -> None:
    """A body that began twice did so because of a fault that lies between the two, or is reported."""
    attempts: defaultdict[tuple[str, int, int], list[Start]] = defaultdict(list)
    for start in books.starts:
        attempts[start.id, start.run, start.attempt].append(start)
    for (id, run, attempt), starts in attempts.items():
        for first, second in pairwise(starts):
            report.repeated += 1
            if not any(fault.explains(first, second) for fault in faults):
                gap = second.at - first.at
                report.problems.append(
                    f"started again without a reason, {gap:.2f} s later: {id} (call {first.number}) run {run} attempt "
                    f"{attempt}, machine {first.machine} process {first.pid}, then {second.machine}, {second.pid}"
                )


def _check_late_starts(books: Books, faults: list[Fault], report: Report) -> None:
    """A run that has ended begins nowhere again, except where somebody did not hear of it."""
    settled = {(outcome.id, outcome.run): outcome.at for outcome in books.outcomes}
    for start in books.starts:
        at = settled.get((start.id, start.run), start.at)
        if at < start.at and not any(fault.within(at, start.at) and fault.reaches(start) for fault in faults):
            report.problems.append(
                f"started {start.at - at:.2f} s after its end: {start.id} (call {start.number}) run {start.run} "
                f"attempt {start.attempt}, machine {start.machine} process {start.pid}"
            )


def _recovery(books: Books, accepted: dict[str, dict[str, Any]], faults: list[Fault]) -> float | None:
    """Seconds from a fault until everything that was on its way and due had started (again): the longest.

    What went on running where the fault did not reach does not start again, and does not count.
    """
    ended = {id: at for at, id in books.ends}
    starts_of: defaultdict[str, list[float]] = defaultdict(list)
    for start in books.starts:
        starts_of[start.id].append(start.at)
    longest: float | None = None
    for fault in faults:
        origin = fault.end if fault.until_end else fault.start
        for id, call in accepted.items():
            if call["kind"] not in PLAIN_KINDS or call["at"] > fault.start or ended.get(id, origin) < fault.start:
                continue
            later = [at for at in starts_of[id] if at > fault.start]
            if later:
                longest = max(longest or 0.0, max(0.0, min(later) - origin))
    return longest


def _span(call: dict[str, Any], fault: Fault) -> float:
    """How long before a fault a call was accepted: infinity if after it. The answer is noted a moment after it came."""
    return max(0.0, fault.start - call["at"]) if call["at"] <= fault.end + NOTED_LATE else float("inf")
