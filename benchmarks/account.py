"""The delivery check: a figure counts only if every task was recorded exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLUMNS = "id, status, attempts, run, losses"
_AS_IT_SHOULD_BE = ("succeeded", 1, 1, 0)


def discrepancies(sent: set[str], rows: Sequence[tuple[Any, ...]], dead: int) -> list[str]:
    """What is wrong, in words: `rows` are COLUMNS of the recorded results, `dead` is the number of dead letters."""
    recorded = {row[0] for row in rows}
    counts = {
        "were sent and not recorded": len(sent - recorded),
        "were recorded and never sent": len(recorded - sent),
        "were recorded twice": len(rows) - len(recorded),
        "did not succeed at their first attempt": sum(row[1:] != _AS_IT_SHOULD_BE for row in rows),
        "are dead letters": dead,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]
