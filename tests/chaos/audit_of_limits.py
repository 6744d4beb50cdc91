"""The account's part about limits, pauses and ticks: what tasks wrote down, and what Redis handed over and when."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

from tests.chaos.evidence import Books, Fault, Report
from tests.chaos.tasks import LISTS, PLACES, RATE

TICK_MS = 1000
LIMITED = {
    "limited": "with places", "rated": "with a rate", "fair": "of tenants", "guarded": "with a circuit breaker",
    "halted": "of a paused type", "displaced": "in a queue that drops its oldest",
}  # fmt: skip


def check_limits(books: Books, faults: list[Fault], report: Report) -> None:
    """All of it."""
    kinds = Counter(line["kind"] for line in books.sent if line["what"] == "accepted")
    report.limited = Counter({words: kinds[kind] for kind, words in LIMITED.items()})
    report.limited["dropped"] = sum(reason == "dropped" for _, _, _, reason, _ in books.rows)
    report.limited["ticks"] = len(books.ticks)
    forgot = any(fault.loses for fault in faults)
    _check_crowds(books, faults, report)
    _check_ticks(books, report, forgot=forgot)
    if not forgot:
        _check_rates(books, report)
        _check_pauses(books, report)


def _check_crowds(books: Books, faults: list[Fault], report: Report) -> None:
    """Never more bodies at once than an account has places. One that a fault reached may outlive its place."""
    account = {line["number"]: line["number"] % 2 for line in books.sent if line.get("kind") == "limited"}
    ends: defaultdict[str, list[float]] = defaultdict(list)
    for at, id in books.ends:
        ends[id].append(at)
    steps: list[tuple[float, int, int]] = []
    for start in books.starts:
        end = min((at for at in ends[start.id] if at >= start.at), default=None)
        if start.number not in account or end is None:  # without an end its process died
            continue
        if not any(fault.within(start.at, end) and (fault.loses or fault.reaches(start)) for fault in faults):
            steps += [(start.at, 1, account[start.number]), (end, -1, account[start.number])]
    running: Counter[int] = Counter()
    for at, step, place in sorted(steps):
        running[place] += step
        if step > 0 and running[place] > PLACES:
            report.problems.append(f"{running[place]} bodies of account {place} at once, at {at:.2f}")


def _check_rates(books: Books, report: Report) -> None:
    """Never more hand-overs within a second than the rate, on Redis' clock, second ones after a death included."""
    calls = {
        line["id"]: line["number"] for line in books.sent if line["what"] == "accepted" and line["kind"] == "rated"
    }
    times: defaultdict[int, list[float]] = defaultdict(list)
    for line in books.handed:
        if line["id"] in calls:
            times[calls[line["id"]] % LISTS].append(line["time"])
    for list_id, moments in times.items():
        moments.sort()
        for first, last in zip(moments, moments[RATE:], strict=False):
            if last - first < 1.0:
                report.problems.append(f"{RATE + 1} starts of list {list_id} within {last - first:.6f} s")


def _check_pauses(books: Books, report: Report) -> None:
    """No call of a paused type is handed over from the moment of the pause until the moment of its end."""
    halted = {line["id"] for line in books.sent if line.get("kind") == "halted" and line.get("id")}
    since: float | None = None
    for line in books.weather:
        if line["what"] == "paused":
            since = line["time"]
        elif since is not None:
            late = [each for each in books.handed if each["id"] in halted and since < each["time"] < line["time"]]
            report.problems += [f"{each['id']} was handed over while its type was paused" for each in late]


def _check_ticks(books: Books, report: Report, *, forgot: bool) -> None:
    """Each tick ran to one end, and none is missing between the first and the last."""
    for id, status in books.ticks:
        if status != "succeeded":
            report.problems.append(f"the tick {id} ended as {status}")
    moments = sorted(int(id.replace("-", "")[:12], 16) for id, _ in books.ticks)
    for one, other in pairwise(moments):
        if other - one != TICK_MS and not forgot:
            report.problems.append(f"from the tick at {one} ms to the next it is {other - one} ms")
