"""The process that owns an embedded server: starts it, and ends it when nobody has used it for a while.

Run by path, detached, with the standard library only: it must not depend on a project's settings or sys.path, and it
outlives whoever started it. `main` documents its arguments. What it shares with `django_taskq.embedded`, which
starts it, is below: the files of a server's directory, their locks, and a few words of the Redis protocol.

Three locks (flock: gone with their process, however it ends) let ten processes begin at once:

- `start.lock`: held while somebody starts or ends the server.
- `watcher.lock`: held by the watcher for life.
- `server.lock`: held by the server for life (it inherits the open file), so two never write one append-only file.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

TICK = 1.0  # seconds between two looks at the server's clients
END_TIMEOUT = 10.0  # seconds the server has for an orderly end
LOG_LIMIT = 1_000_000  # bytes of log kept from earlier starts


class Busy(Exception):
    """Somebody else holds a lock."""


class Gone(Exception):
    """Nobody answers on the socket."""


class Home:
    """The directory of one embedded server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "server.log"
        # Where the socket is: below here, or elsewhere when this directory's path is too long for a socket.
        self.address = directory / "server.address"
        self.start_lock = directory / "start.lock"
        self.watcher_lock = directory / "watcher.lock"
        self.server_lock = directory / "server.lock"


@contextmanager
def locked(path: Path, timeout: float = 0.0) -> Iterator[int]:
    """Hold the lock and yield its descriptor. Raises Busy when it is not to be had within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy(f"{path.name} is held") from None
                time.sleep(0.01)
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except Busy:
        return True


class Connection:
    """One connection to the server, a command at a time. Methods raise Gone when nobody answers."""

    def __init__(self, path: str, timeout: float = 2.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise Gone(str(error)) from error
        self.reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.close()
        self.socket.close()

    def command(self, line: str) -> str:
        """The reply to an inline command; an error reply comes back as its text, with the leading `-`."""
        try:
            self.socket.sendall(line.encode() + b"\r\n")
            head = self.reader.readline()
            if head.startswith(b"$"):
                return self.reader.read(int(head[1:]) + 2)[:-2].decode()
        except OSError as error:
            raise Gone(str(error)) from error
        if not head.endswith(b"\r\n"):
            raise Gone("the connection was closed")
        return head[:-2].decode().removeprefix("+")

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the end of the server."""
        select.select([self.socket], [], [], seconds)

    def ready(self) -> bool:
        """False while the server is still loading its file."""
        return self.command("PING") == "PONG"

    def info(self, section: str) -> dict[str, str]:
        lines = self.command(f"INFO {section}").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def shut_down(home: Home, connection: Connection) -> None:
    """End the server, in good order if it can, and return when it is gone. The caller holds start.lock."""
    process_id = int(connection.info("server")["process_id"])
    with suppress(Gone):
        connection.command("SHUTDOWN")
    try:
        with locked(home.server_lock, END_TIMEOUT):
            return
    except Busy:
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)  # the lock shows that it lives: the number is still its own


class Watcher:
    """Watches one server from its first answer to its end."""

    def __init__(self, home: Home, address: str, idle: float) -> None:
        self.home = home
        self.address = address
        self.idle = idle
        self.stopping = False
        self.used = time.monotonic()
        self.connections_seen = 0

    def stop(self, *_signal: object) -> None:
        self.stopping = True

    def watch(self) -> None:
        """Return once the server has ended: by our hand after `idle` seconds without clients, or by itself."""
        while is_locked(self.home.server_lock):
            with suppress(Gone), Connection(self.address) as connection:
                while not self._end_if_unused(connection):
                    connection.wait(TICK)
                return
            time.sleep(0.1)

    def _end_if_unused(self, connection: Connection) -> bool:
        if not (self.stopping or self._unused(connection)):
            return False
        try:
            with locked(self.home.start_lock):
                # Looked at again under the lock: whoever is told that the server runs has been counted by now.
                if not (self.stopping or self._unused(connection)):
                    return False
                shut_down(self.home, connection)
                return True
        except Busy:
            return False

    def _unused(self, connection: Connection) -> bool:
        now = time.monotonic()
        others = int(connection.info("clients")["connected_clients"]) - 1
        received = int(connection.info("stats")["total_connections_received"])
        if others or received != self.connections_seen:  # the second sees who came and went between two looks
            self.connections_seen = received
            self.used = now
        # Without its socket's file nobody will find the server any more.
        return now - self.used >= self.idle or (not others and not os.path.exists(self.address))  # noqa: PTH110


def spawn(home: Home, address: str, binary: str) -> subprocess.Popen[bytes]:
    """Start the server. Raises Busy while an earlier one still writes its file."""
    options = {
        "dir": str(home.directory),
        "port": "0",
        "unixsocket": address,
        "unixsocketperm": "700",
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Plain commands instead of a snapshot in the server's own format: another server or version reads them too.
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    mode = "ab" if not home.log.exists() or home.log.stat().st_size < LOG_LIMIT else "wb"
    with locked(home.server_lock, END_TIMEOUT) as descriptor, home.log.open(mode) as log:
        return subprocess.Popen(  # noqa: S603
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.directory,
            pass_fds=[descriptor],
        )


def await_answer(address: str, server: subprocess.Popen[bytes], timeout: float) -> None:
    """Return when the server is ready. Raises Gone when it ends, or says nothing at all for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Gone(f"it ended with exit code {server.returncode}")
        with suppress(Gone), Connection(address) as connection:
            if connection.ready():
                return
            deadline = time.monotonic() + timeout  # busy loading: that takes as long as it takes
        time.sleep(0.01)
    server.kill()
    raise Gone(f"no answer within {timeout:.0f} s")


def run(home: Home, address: str, binary: str, idle: float, timeout: float, report: int) -> None:
    """Own the server until its end. Writes `ok`, or what went wrong, to the descriptor `report` and closes it."""
    server: subprocess.Popen[bytes] | None = None
    watcher = Watcher(home, address, idle)
    signal.signal(signal.SIGTERM, watcher.stop)
    try:
        with locked(home.watcher_lock, END_TIMEOUT):
            if not is_locked(home.server_lock):  # else its watcher was killed, and we adopt it
                server = spawn(home, address, binary)
                await_answer(address, server, timeout)
            os.write(report, b"ok")
            os.close(report)
            watcher.watch()
            if server is not None:
                server.wait()
    except (Busy, Gone) as error:
        os.write(report, str(error).encode())


def main(arguments: list[str]) -> None:
    """Arguments: directory, socket, server's binary, idle seconds, seconds to start, descriptor to report to."""
    directory, address, binary, idle, timeout, report = arguments
    # A child of nobody: no terminal's Ctrl-C reaches it, and whoever started it has nothing to wait for.
    if os.fork():
        os._exit(0)
    os.setsid()
    run(Home(Path(directory)), address, binary, float(idle), float(timeout), int(report))


if __name__ == "__main__":
    main(sys.argv[1:])
