"""Shows what is going on: one line that is rewritten, or now and then a new one where there is no terminal."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from testproject.demo.accounts import Accounts

INTERVAL = 0.25  # seconds between two looks
QUIET = 2.0  # seconds between two lines where they cannot be rewritten
STATES = ("scheduled", "queued", "running", "succeeded", "failed")
# A line of the worker's log as LOGGING in settings.py writes it, when it tells of trouble.
TROUBLE = re.compile(r"^\S+ (\S+) (?:WARNING|ERROR) +\S+: (.*)$")
# In front of names and in ids: what is the same in every line.
LENGTHY = re.compile(r"testproject\.shop\.tasks\.|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-(?=[0-9a-f]{12})")


class Progress:
    def __init__(self, accounts: Accounts, worker_log: Path) -> None:
        self.accounts = accounts
        self._log = worker_log.open(encoding="utf-8", errors="replace")
        self._started = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._last = ("", 0.0)  # what was shown, and when

    def follow(self, check: Callable[[], None], timeout: float | None) -> bool:
        """Show the state of things until all is settled; False if it is not after `timeout` seconds."""
        while True:
            check()
            counts = self.accounts.update()
            self._show_trouble()
            self._show(counts)
            if self.accounts.settled:
                self._show_trouble()
                self._show(counts, finally_=True)
                return True
            if timeout is not None and time.monotonic() - self._started > timeout:
                return False
            time.sleep(INTERVAL)

    def listen(self, check: Callable[[], None]) -> None:
        """Show the worker's complaints for ever."""
        while True:
            check()
            self._show_trouble()
            time.sleep(INTERVAL)

    def _show(self, counts: Counter[str], *, finally_: bool = False) -> None:
        names = [*STATES, *sorted(set(counts) - set(STATES))]
        text = "   ".join(f"{name} {counts[name]}" for name in names) + f"   retries {self.accounts.retries}"
        now = time.monotonic()
        shown, when = self._last
        if self._terminal:
            self._write(f"\r\033[K{now - self._started:5.1f} s   {text}")
        elif text != shown and (finally_ or now - when >= QUIET):
            self._write(f"{now - self._started:5.1f} s   {text}\n")
        else:
            return
        self._last = (text, now)

    def _show_trouble(self) -> None:
        for line in self._log:
            if found := TROUBLE.match(line):
                clear = "\r\033[K" if self._terminal else ""
                text = LENGTHY.sub("", found[2])
                self._write(f"{clear}{found[1][:8]}  {text}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
