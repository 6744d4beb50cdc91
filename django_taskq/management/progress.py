"""A progress bar for people: on a terminal's standard error only, so that pipes and logs stay clean."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from django.core.management.base import OutputWrapper

WIDTH = 30
EVERY = 0.1  # seconds


class Progress:
    """A line that is drawn again at most ten times a second and gone at the end. `total` None: not known."""

    def __init__(self, stream: OutputWrapper, label: str, total: int | None = None) -> None:
        self._stream, self._label, self._total = stream, label, total
        self._done, self._drawn, self._draw_at = 0, 0, 0.0
        self._visible = stream.isatty() and total != 0

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write("")

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        """So many are done in all."""
        self._done = done
        if self._visible and time.monotonic() >= self._draw_at:
            self._draw()

    def _draw(self) -> None:
        self._draw_at = time.monotonic() + EVERY
        if self._total is None:
            self._write(f"{self._label} {self._done:,}")
            return
        filled = WIDTH * min(self._done, self._total) // max(self._total, 1)
        self._write(f"{self._label} [{'#' * filled}{' ' * (WIDTH - filled)}] {self._done:,}/{self._total:,}")

    def _write(self, line: str) -> None:
        if self._visible:
            end = "" if line else "\r"
            self._stream.write(f"\r{line.ljust(self._drawn)}{end}", style_func=str, ending="")
            self._stream.flush()
            self._drawn = len(line)
