"""Figures, their medians, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Figure:
    """One thing that was measured, in every round once. `reference`: what it is compared with, in the same rounds."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)  # the floor's values, unless the benchmark says otherwise

    def add(self, value: float | None, reference: float | None = None) -> None:
        """One round's; None where this machine cannot tell."""
        if value is not None:
            self.values.append(value)
        if reference is not None:
            self.reference.append(reference)

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios to the reference: what else the machine does in a round, it does to both."""
        ratios = [value / other for value, other in zip(self.values, self.reference, strict=False) if other]
        return median(ratios) if ratios else None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        shown: dict[str, Any] = {"name": self.name, "unit": self.unit, "median": None, "values": self.values}
        if self.values:
            shown["median"] = median(self.values)
        if self.reference:
            shown |= {"reference": median(self.reference), "reference_values": self.reference, "ratio": self.ratio}
        return shown


def percentile(values: Iterable[float], percent: float) -> float:
    """By the nearest rank: a value that was measured, not one in between."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def shown(value: float, unit: str) -> str:
    """A value with its unit, as precise as is sensible."""
    digits = 0 if abs(value) >= 1000 or unit == "bytes" else 1 if abs(value) >= 20 else 2
    return f"{value:,.{digits}f}{'' if unit in ('/s', '%') else ' '}{unit}"


def table(title: str, figures: Sequence[Figure]) -> str:
    """The figures of one benchmark as text: median, range, and ratio to the reference."""
    rows = [("", "median", "lowest .. highest", "beside it", "ratio")]
    for figure in figures:
        values, unit = figure.values, figure.unit
        if not values:
            rows.append((figure.name, "not measurable here", "", "", ""))
            continue
        spread = f"{shown(min(values), unit)} .. {shown(max(values), unit)}" if len(values) > 1 else ""
        reference = shown(median(figure.reference), unit) if figure.reference else ""
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
        rows.append((figure.name, shown(median(values), unit), spread, reference, ratio))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows[0] = (title, *rows[0][1:])
    widths[0] = max(widths[0], len(title))
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(line))
        for line in (zip(row, widths, strict=True) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
