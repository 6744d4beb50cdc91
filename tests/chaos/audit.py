"""The account after a run: four books side by side, and every difference between them that a fault does not explain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.chaos.ledger import Start
from tests.chaos.load import KINDS
from tests.chaos.watch import Outcome

PLAIN_KINDS = {name for name, kind in KINDS.items() if kind.plain}


@dataclass
class Fault:
    """Something was done, from `start` to `end` (monotonic seconds).

    It may make others start again what these processes, these machines or, with `everywhere`, anybody was running. One
    that names nobody explains no repeated start: a lost reply, for one, must not cause any.
    """

    name: str
    start: float
    end: float
    pids: frozenset[int] = frozenset()
    machines: frozenset[int] = frozenset()
    everywhere: bool = False
    loses: bool = False  # Redis may have forgotten what it had answered
    until_end: bool = False  # recovery is counted from the end: before it nothing could be done

    def explains(self, first: Start, second: Start) -> bool:
        """Whether it is the reason that `second` repeats `first`."""
        if self.start > second.at or self.end < first.at:
            return False
        return self.everywhere or any(
            start.pid in self.pids or start.machine in self.machines for start in (first, second)
        )


@dataclass
class Books:
    """What the four sources say."""

    sent: list[dict[str, Any]]
    starts: list[Start]
    ends: list[tuple[float, str]]
    outcomes: Iterable[Outcome]
    rows: list[tuple[str, int, str, str, int]]  # id, run, status, reason, attempts of every TaskResult
    dead: list[tuple[str, int]]  # id and run of every dead letter


@dataclass
class Report:
    """One line of the table, and what is wrong. Nothing may be."""

    title: str = ""
    seed: int = 0
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    repeated: int = 0
    lost: int = 0
    forgotten: int = 0  # accepted, and gone because Redis forgot them with a fault that makes it forget
    twice: int = 0
    recovered: float | None = None  # seconds
    loss_window: float | None = None  # seconds before the fault in which the oldest forgotten call was accepted
    problems: list[str] = field(default_factory=list)


def audit(books: Books, faults: list[Fault]) -> Report:
    """Compares everything with everything."""
    report = Report()
    accepted, doubtful = _promises(books, report)
    _add_unrecorded(books, accepted, report)
    ends = {id: status for id, _, status, _, _ in books.rows}
    loses = [fault for fault in faults if fault.loses]
    missing = accepted.keys() - ends.keys()
    report.accepted = len(accepted)
    report.ends = Counter(ends[id] for id in accepted if id in ends)
    report.retried = sum(attempts > 1 for id, _, _, _, attempts in books.rows if id in accepted)
    if loses:
        report.forgotten = len(missing)
        report.loss_window = max((_window(accepted[id], loses) for id in missing), default=0.0)
    else:
        report.lost = len(missing)
        for id in missing:
            report.problems.append(f"lost: {accepted[id]['kind']} {id}, number {accepted[id]['number']}")
    _check_strays(books, accepted, doubtful, ends, report)
    _check_ends(books, accepted, report, forgot=bool(loses))
    _check_settlements(books, report, forgot=bool(loses))
    _check_starts(books, faults, report)
    report.recovered = _recovery(books, accepted, faults)
    return report


def _promises(books: Books, report: Report) -> tuple[dict[str, dict[str, Any]], set[int]]:
    """Accepted calls by id; numbers of calls whose producer was not told what became of them."""
    accepted: dict[str, dict[str, Any]] = {}
    tried: Counter[int] = Counter()
    for line in books.sent:
        number = line["number"]
        if line["what"] == "tries":
            tried[number] += 1
        elif line["what"] in {"accepted", "again", "refused"}:
            tried[number] -= 1
        if line["what"] == "accepted" or (line["what"] == "again" and line["created"]):
            accepted[line["id"]] = line
    for number, count in Counter(line["number"] for line in accepted.values()).items():
        if count > 1:
            report.problems.append(f"call {number} was accepted as {count} tasks")
    return accepted, {number for number, count in tried.items() if count > 0}


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
    """Whatever ran or ended belongs to a call, and one call is one task."""
    number_of = {start.id: start.number for start in books.starts}
    for id in (ends.keys() | number_of.keys()) - accepted.keys():
        if number_of.get(id) not in doubtful and (id in number_of or not doubtful):
            report.problems.append(f"nobody was told of {id} (call {number_of.get(id)}, {ends.get(id)})")
    ids_of: defaultdict[int, set[str]] = defaultdict(set)
    for id, number in number_of.items():
        ids_of[number].add(id)
    for number, ids in ids_of.items():
        if len(ids) > 1 and number not in doubtful:
            report.problems.append(f"call {number} ran as {len(ids)} tasks")


def _check_ends(books: Books, accepted: dict[str, dict[str, Any]], report: Report, *, forgot: bool) -> None:
    """Each kind of task ends in the ways that it can end."""
    starts_of = Counter(start.id for start in books.starts)
    answers = {line["id"]: line["answer"] for line in books.sent if line["what"] == "cancels"}
    if not forgot:
        for id, answer in answers.items():
            if answer == "not found":
                report.problems.append(f"{id} was accepted, and not found when it was cancelled")
    dead = Counter(books.dead)
    for id, run, status, reason, _ in books.rows:
        if id not in accepted:
            continue
        kind = accepted[id]["kind"]
        allowed = KINDS[kind].ends
        if answers.get(id) is True and not forgot:
            allowed = frozenset({"cancelled"})
        if status not in allowed and not (reason == "worker_lost" and starts_of[id] > 1):
            report.problems.append(f"{kind} {id} ended as {status} ({reason}), not as {', '.join(sorted(allowed))}")
        if status == "failed" and dead[id, run] != 1:
            report.problems.append(f"{kind} {id} failed in run {run} with {dead[id, run]} dead letters")
    for (id, run), count in dead.items():
        if count > 1:
            report.problems.append(f"{id} run {run} has {count} dead letters")


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
        last[outcome.id] = outcome.status
    for id, _, status, _, _ in books.rows:
        if last.get(id, status) != status:
            report.problems.append(f"{id} was settled as {last[id]} and recorded as {status}")


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


def _window(call: dict[str, Any], faults: list[Fault]) -> float:
    """How long before the fault that made Redis forget it a call was accepted."""
    spans = [fault.start - call["at"] for fault in faults if fault.start >= call["at"]]
    return float(min(spans, default=0.0))
