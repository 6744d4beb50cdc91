"""Books of a run that the queue has no part in: appended to by many processes, one write(2) a line.

Times are CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_descriptors: dict[Path, int] = {}


def append(path: Path, **values: Any) -> None:
    """Adds a line with the time. Not synced: a killed process loses nothing that it wrote, only a machine would."""
    descriptor = _descriptors.get(path)
    if descriptor is None:
        descriptor = _descriptors[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, json.dumps({"at": time.monotonic(), **values}).encode() + b"\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines so far; one that is being written is not one yet."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def close(path: Path) -> None:
    """Forgets the file of a run that is over."""
    descriptor = _descriptors.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


class Start(NamedTuple):
    """The body of a task began."""

    at: float
    number: int
    id: str
    run: int
    attempt: int
    losses: int
    pid: int
    machine: int


class Books:
    """The files of one run, below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bodies = directory / "bodies"  # starts and ends of task bodies
        self.sent = directory / "sent"  # calls that producers made, and the answers
        self.faults = directory / "faults"  # what processes did to themselves at a named point
        self.handed = directory / "handed"  # what claims handed over and when, on Redis' clock (injected.py)
        self.weather = directory / "weather"  # when a type of task was paused (weather.py)
        self.down = directory / "down"  # while it exists, what some tasks call is down

    def starts(self) -> list[Start]:
        """In the order of time."""
        found = [Start(**_without(line, "what")) for line in read(self.bodies) if line["what"] == "start"]
        return sorted(found)

    def ends(self) -> list[tuple[float, str]]:
        """When a body returned or raised, and the task's id."""
        return [(line["at"], line["id"]) for line in read(self.bodies) if line["what"] == "end"]

    def close(self) -> None:
        for path in (self.bodies, self.sent, self.faults, self.handed, self.weather):
            close(path)


def _without(line: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != name}
