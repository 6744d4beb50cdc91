"""What systemd is told of a worker: sd_notify(3), and the watchdog of sd_watchdog_enabled(3). Elsewhere, nothing."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

logger = logging.getLogger("django_taskq.worker")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Talks to the socket that the environment names, and takes those names out of it: tasks start programs, too.

    Messages are datagrams that nobody waits for. What could not be sent is sent again in the next round.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address, interval, pid = (environ.pop(name, "") for name in VARIABLES)
        # A leading @ is systemd's way to write the NUL of an abstract socket.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watched = interval.isdecimal() and pid in ("", str(os.getpid()))
        self._every = int(interval) / 2e6 if watched else None  # seconds; half of what systemd waits, as it recommends
        self._fed_at = 0.0
        self._told: dict[str, str] = {}
        self._failing = False

    def tick(self, running: int, wanted: int, *, away: bool) -> None:
        """Once a round of the supervisor: how many of its task processes are registered, whether Redis is away."""
        if not self._address:
            return
        news = {}
        if "STOPPING" not in self._told:
            news["STATUS"] = f"{running} of {wanted} task processes run{'; Redis is away' if away else ''}"
            if running >= wanted:
                news["READY"] = "1"
        self._tell(news)

    def stopping(self) -> None:
        """It claims nothing more; running tasks have their time."""
        if self._address:
            self._tell({"STOPPING": "1", "STATUS": "finishing what runs"})

    def _tell(self, news: dict[str, str]) -> None:
        news = {name: value for name, value in news.items() if self._told.get(name) != value}
        now = time.monotonic()
        feeds = self._every is not None and now - self._fed_at >= self._every
        lines = [f"{name}={value}" for name, value in news.items()] + ["WATCHDOG=1"] * feeds
        if lines and self._sent("\n".join(lines)):
            self._told |= news
            self._fed_at = now if feeds else self._fed_at

    def _sent(self, message: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failing:
                logger.warning("systemd cannot be told %s: %s", message.replace("\n", ", "), error)
            self._failing = True
            return False
        self._failing = False
        return True
