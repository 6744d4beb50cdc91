"""What processes cost, read from /proc. Where there is no /proc (macOS) the answer is None."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PGRP, _UTIME, _STIME, _RSS = 2, 11, 12, 21  # fields of /proc/<pid>/stat, counted from the one after the name


def cpu_of_group(group: int) -> float | None:
    """CPU seconds that the living processes of a process group have used so far."""
    if not Path("/proc/self/stat").exists():
        return None
    stats = (_stat(path) for path in Path("/proc").glob("[0-9]*"))
    return sum((int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS for stat in stats if stat and int(stat[_PGRP]) == group)


def cpu_of(pid: int) -> float | None:
    """CPU seconds that one process has used so far."""
    stat = _stat(Path(f"/proc/{pid}"))
    return (int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS if stat else None


def resident(pid: int) -> float | None:
    """Resident memory of one process, in MB."""
    stat = _stat(Path(f"/proc/{pid}"))
    return int(stat[_RSS]) * _PAGE / 1e6 if stat else None


def _stat(path: Path) -> list[str]:
    try:
        return (path / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
