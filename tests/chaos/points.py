"""Arming the points of injected.py from outside, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos import ledger


def prepare(books: ledger.Books, machines: int) -> None:
    """Makes room for armed points."""
    for place in ("any", *range(machines)):
        (books.directory / f"armed-{place}").mkdir(parents=True, exist_ok=True)


def arm(
    books: ledger.Books, point: str, action: str = "kill", *, seconds: float = 0.0, machine: int | None = None
) -> Path:
    """The next process that passes the point (of one machine, or of any) does it to itself, once.

    `action`: kill (itself, -9), kill machine (its whole process group), stop (SIGSTOP, SIGCONT after `seconds`), sleep
    (that thread, for `seconds`), raise (a RuntimeError). The file that is returned is gone when it has happened.
    """
    path = books.directory / f"armed-{'any' if machine is None else machine}" / point
    draft = path.with_name(f".{point}")
    draft.write_text(json.dumps({"action": action, "seconds": seconds}))
    draft.rename(path)
    return path


def disarm(books: ledger.Books) -> None:
    """Takes back what nobody has passed."""
    for path in books.directory.glob("armed-*/*"):
        if path.suffix in {".before", ".after"}:
            path.unlink(missing_ok=True)


def fired(books: ledger.Books) -> list[dict[str, Any]]:
    """What has happened at armed points so far."""
    return list(ledger.read(books.faults))
