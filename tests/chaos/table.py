"""The table of docs/guarantees.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.chaos.evidence import Report

HEAD = (
    "Fault", "Runs", "Accepted", "Succeeded", "Failed", "Other ends", "Lost", "Settled twice", "Started again",
    "Recovered", "Unexplained",
)  # fmt: skip


def line(report: Report) -> str:
    """One run."""
    ends = report.ends
    recovered = "-" if report.recovered is None else f"{report.recovered:.2f}"
    verdict = "" if not report.problems else f"  {len(report.problems)} PROBLEMS"
    forgotten = f" forgotten {report.forgotten} (within {report.loss_window:.2f} s)" if report.forgotten else ""
    return (
        f"seed {report.seed:<4} accepted {report.accepted:<5} succeeded {ends['succeeded']:<5} "
        f"failed {ends['failed']:<3} other {sum(ends.values()) - ends['succeeded'] - ends['failed']:<3} "
        f"retried {report.retried:<3} again {report.repeated:<3} lost {report.lost} twice {report.twice} "
        f"recovered {recovered} s{forgotten}{verdict}"
    )


def markdown(reports: Iterable[Report]) -> str:
    """All runs, a row for each fault."""
    by_title: dict[str, list[Report]] = {}
    for report in reports:
        by_title.setdefault(report.title, []).append(report)
    rows = [HEAD, tuple("---" if position == 0 else "---:" for position in range(len(HEAD)))]
    rows += [_row(title, group) for title, group in by_title.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def limits(reports: Iterable[Report]) -> str:
    """How many of the accepted tasks had to do with limits."""
    total: Counter[str] = sum((report.limited for report in reports), Counter())
    return ", ".join(f"{count:,} {words}" for words, count in total.items())


def _row(title: str, group: list[Report]) -> tuple[str, ...]:
    """`Recovered` is the longest; `Unexplained` counts whatever a fault is no reason for."""
    ends: Counter[str] = sum((report.ends for report in group), Counter())
    times = [report.recovered for report in group if report.recovered is not None]
    lost = f"{sum(report.lost for report in group)}"
    if forgotten := sum(report.forgotten for report in group):
        lost += f" (Redis forgot {forgotten})"
    return (
        title, f"{len(group)}", f"{sum(report.accepted for report in group):,}", f"{ends['succeeded']:,}",
        f"{ends['failed']:,}", f"{ends['cancelled'] + ends['expired'] + ends['discarded']:,}", lost,
        f"{sum(report.twice for report in group)}", f"{sum(report.repeated for report in group)}",
        f"{max(times):.1f} s" if times else "", f"{sum(len(report.problems) for report in group)}",
    )  # fmt: skip
