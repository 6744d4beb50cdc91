"""systemd is told when a worker serves, that it goes on, and that it stops: on a socket like systemd's."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_taskq.worker.notifier import Notifier
from tests.servers import wait_for
from tests.worker.tasks import shows_environment

if TYPE_CHECKING:
    from tests.conftest import StartWorker


class Systemd:
    """Its side of the socket."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
        self.heard: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.setblocking(False)

    def lines(self) -> list[str]:
        """All that came so far."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(str(tmp_path / "notify"))
    yield systemd
    systemd.socket.close()


def test_a_worker_is_ready_once_its_processes_are_and_says_that_it_stops(start: StartWorker, systemd: Systemd) -> None:
    environment = {**systemd.environment, "WATCHDOG_PID": ""}
    process = start("--processes", "2", "--threads", "1", env=environment)
    wait_for(lambda: "READY=1" in systemd.lines(), 5, systemd.lines)
    assert systemd.heard.index("STATUS=2 of 2 task processes run") == systemd.heard.index("READY=1") - 1
    wait_for(lambda: systemd.lines().count("WATCHDOG=1") >= 3, 5, systemd.lines)
    assert shows_environment.delay("NOTIFY_SOCKET", "WATCHDOG_USEC", "PATH").get(timeout=5) == ["PATH"]
    process.terminate()
    assert [line for line in systemd.lines() if line != "WATCHDOG=1"][-2:] == [
        "STOPPING=1",
        "STATUS=finishing what runs",
    ]
    assert systemd.heard.count("READY=1") == systemd.heard.count("STOPPING=1") == 1


def test_a_worker_that_hangs_does_not_feed_the_watchdog(start: StartWorker, systemd: Systemd) -> None:
    process = start("--threads", "1", env={**systemd.environment, "WATCHDOG_PID": ""})
    wait_for(lambda: "WATCHDOG=1" in systemd.lines(), 5)
    process.freeze()
    systemd.lines()
    systemd.heard.clear()
    time.sleep(1.0)
    assert systemd.lines() == []
    process.thaw()
    wait_for(lambda: "WATCHDOG=1" in systemd.lines(), 5)


def test_redis_being_away_is_said_and_stops_nothing(systemd: Systemd) -> None:
    notifier = Notifier(dict(systemd.environment))
    notifier.tick(2, 2, away=False)
    notifier.tick(2, 2, away=True)
    notifier.tick(2, 2, away=True)
    assert systemd.lines() == [
        "STATUS=2 of 2 task processes run", "READY=1", "WATCHDOG=1", "STATUS=2 of 2 task processes run; Redis is away",
    ]  # fmt: skip


def test_an_abstract_socket_and_a_watchdog_of_another_process() -> None:
    systemd = Systemd(f"@taskq-{os.getpid()}")
    Notifier({**systemd.environment, "WATCHDOG_PID": "1"}).tick(1, 1, away=False)
    assert systemd.lines() == ["STATUS=1 of 1 task processes run", "READY=1"]
    systemd.socket.close()


def test_what_cannot_be_sent_is_said_once_and_sent_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address}
    notifier = Notifier(environment)
    assert environment == {}
    with caplog.at_level(logging.WARNING):
        notifier.tick(1, 1, away=False)
        notifier.tick(1, 1, away=False)
    [record] = caplog.records
    assert "systemd cannot be told STATUS=1 of 1 task processes run, READY=1: " in record.getMessage()
    systemd = Systemd(address)
    notifier.tick(1, 1, away=False)
    assert "READY=1" in systemd.lines()
    systemd.socket.close()


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.tick(1, 1, away=False)
    notifier.stopping()
