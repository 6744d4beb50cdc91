"""What a run leaves for its account: the faults that happened, the books that were kept, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.chaos.ledger import Start

ANYTHING = float("inf")


class Settled(Protocol):
    """What the outcome stream says of one run of a task."""

    id: str
    run: int
    status: str
    at: float  # monotonic seconds: when it was seen there


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
    loses: float = 0.0  # seconds: what Redis answered in them, before the fault, it may have forgotten
    cancels: bool = False  # any task may end as cancelled
    until_end: bool = False  # recovery is counted from the end: before it nothing could be done

    def reaches(self, start: Start) -> bool:
        """Whether it was done to the process, or the machine, that began this."""
        return self.everywhere or start.pid in self.pids or start.machine in self.machines

    def explains(self, first: Start, second: Start) -> bool:
        """Whether it is the reason that `second` repeats `first`."""
        return self.within(first.at, second.at) and (self.reaches(first) or self.reaches(second))

    def within(self, start: float, end: float) -> bool:
        """Whether it lasted at any moment of that span."""
        return self.start <= end and self.end >= start


@dataclass
class Books:
    """What the four sources say."""

    sent: list[dict[str, Any]]
    starts: list[Start]
    ends: list[tuple[float, str]]
    outcomes: Iterable[Settled]
    rows: list[tuple[str, int, str, str, int]]  # id, run, status, reason, attempts of every TaskResult
    dead: list[tuple[str, int]]  # id and run of every dead letter
    handed: list[dict[str, Any]] = field(default_factory=list)  # what claims handed over, of some types
    weather: list[dict[str, Any]] = field(default_factory=list)  # when a type was paused
    ticks: list[tuple[str, str]] = field(default_factory=list)  # id, status of the periodic task's rows


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
    limited: Counter[str] = field(default_factory=Counter)  # what had to do with limits, in words
    recovered: float | None = None  # seconds
    loss_window: float | None = None  # seconds before the fault in which the oldest forgotten call was accepted
    problems: list[str] = field(default_factory=list)
