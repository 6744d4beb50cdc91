"""What a load test found, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PERCENTS = (50, 95, 99)


@dataclass(slots=True)
class Report:
    """None: not measured. Rates are tasks per second."""

    queue: str
    tasks: int
    payload: int  # bytes
    workers: int  # task processes that serve the queue
    bytes_per_task: float | None = None  # of Redis' memory, while it is queued
    latencies: Sequence[float] = ()  # seconds from delay() to the start of the task, sorted
    delay_rate: float | None = None  # one by one
    delay_many_rate: float | None = None
    drain_rate: float | None = None  # from the first that was sent to the last that ended
    record_rate: float | None = None  # from the first that was sent to the last row
    sent: int = 0
    once: int = 0  # ended exactly once
    repeated: int = 0  # ended more than once
    missing: Counter[str] = field(default_factory=Counter)  # state -> how many have not ended
    unsuccessful: Counter[str] = field(default_factory=Counter)  # how they ended -> how many
    rows: int | None = None  # None: successes are not recorded here
    rows_expected: int = 0

    @property
    def problems(self) -> list[str]:
        """What is wrong with the delivery, in words."""
        found = [f"{count} of {self.sent} have not ended: {state}" for state, count in self.missing.items()]
        found += [f"{count} ended as {how}" for how, count in self.unsuccessful.items()]
        if self.repeated:
            found.append(f"{self.repeated} ended more than once")
        if self.rows is not None and self.rows != self.rows_expected:
            found.append(f"{self.rows} rows are in the database instead of {self.rows_expected}")
        return found

    def percentile(self, percent: int) -> float | None:
        """Nearest rank, in milliseconds; None without samples."""
        if not self.latencies:
            return None
        rank = max(0, -(-len(self.latencies) * percent // 100) - 1)
        return round(1000 * self.latencies[rank], 3)

    def as_json(self) -> dict[str, Any]:
        """The names are stable."""
        percentiles = {f"p{percent}": self.percentile(percent) for percent in PERCENTS}
        return {
            "queue": self.queue,
            "tasks": self.tasks,
            "payload": self.payload,
            "workers": self.workers,
            "bytes_per_task": _rounded(self.bytes_per_task),
            "latency_ms": {"samples": len(self.latencies), **percentiles},
            "delay_per_second": _rounded(self.delay_rate),
            "delay_many_per_second": _rounded(self.delay_many_rate),
            "drained_per_second": _rounded(self.drain_rate),
            "recorded_per_second": _rounded(self.record_rate),
            "delivery": {
                "sent": self.sent,
                "once": self.once,
                "repeated": self.repeated,
                "missing": dict(self.missing),
                "unsuccessful": dict(self.unsuccessful),
                "rows": self.rows,
            },
            "ok": not self.problems,
        }

    def as_text(self) -> str:
        """A line for each figure."""
        milliseconds = [self.percentile(percent) for percent in PERCENTS]
        latency = "not measured"
        if milliseconds[0] is not None:
            values = (f"p{percent} {value:.2f} ms" for percent, value in zip(PERCENTS, milliseconds, strict=True))
            latency = f"{', '.join(values)} ({len(self.latencies)} samples, worker idle)"
        lines = [
            (
                "tasks",
                f"{self.tasks:,} with {self.payload:,} bytes through {self.queue}; worker processes: {self.workers}",
            ),
            ("memory", f"{_number(self.bytes_per_task)} bytes of Redis per queued task"),
            ("latency", f"delay() to start: {latency}"),
            ("delay()", f"{_number(self.delay_rate)} tasks/s, one by one"),
            ("delay_many()", f"{_number(self.delay_many_rate)} tasks/s"),
            ("drained", f"{_number(self.drain_rate)} tasks/s, first sent to last ended"),
        ]
        if self.rows is not None:
            lines.append(("recorded", f"{_number(self.record_rate)} rows/s, first sent to last row"))
        delivery = f"{self.once:,} of {self.sent:,} ended exactly once"
        lines.append(("delivery", delivery if not self.problems else f"{delivery}. {'; '.join(self.problems)}"))
        return "\n".join(f"{name:<13} {text}" for name, text in lines)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
