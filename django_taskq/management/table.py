"""Tables that a terminal and a pipe both like: aligned columns, no borders, no colour."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Aligned text; the columns numbered in `right` are aligned to the right. '' without rows."""
    if not rows:
        return ""
    texts = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    )
    return "\n".join(lines)


def span(seconds: float | None) -> str:
    """A span as people say it: 0.3 s, 42 s, 7 min, 5 h, 3 d; '-' for None."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    for limit, unit, size in ((10, "s", 1.0), (90, "s", 1.0), (5400, "min", 60.0), (129_600, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if limit == 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
