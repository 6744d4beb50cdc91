"""A process that has imported what a worker needs, and forks one whenever it is asked to: as real, and ready sooner.

`python -m tests.forkserver` is that process. Django's settings are read in each child, as by `manage.py`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# What can be imported before there are settings, and takes long.
PRELOADED = (
    "concurrent.futures.thread", "django.conf.urls.i18n", "django.contrib.admin", "django.contrib.contenttypes.apps",
    "django.core.management.commands.migrate", "django.db.backends.sqlite3.base", "django.templatetags.tz",
    "django_tasks.backends.base", "django_taskq.broker.periodic", "django_taskq.broker.statistics",
    "django_taskq.worker.graves", "django_taskq.worker.process", "django_taskq.worker.reclaimer",
    "django_taskq.worker.restarts", "multiprocessing.popen_fork", "PIL.ImageDraw", "prometheus_client",
)  # fmt: skip


class ForkServer:
    """What a process of the tests knows of its fork server, which begins with the first child."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended: dict[int, int] = {}

    def start(self, command: Sequence[str], log: Path, env: dict[str, str]) -> Forked:
        """`command` without the interpreter, in a session of its own. What it prints goes to `log`."""
        with self._lock:
            if self._server is None:
                self._server = self._begin()
            assert self._server.stdin is not None
            request = {"command": [*command], "log": str(log), "env": env}
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            while (pid := self._read()) is None:
                pass
            self._ended.pop(pid, None)  # of somebody who had that number before
            return Forked(self, pid)

    def _begin(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        env.pop("DJANGO_SETTINGS_MODULE", None)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver"],
            bufsize=0,  # what `select` does not see is not there
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        )

    def _read(self) -> int | None:
        """The next line it says: the process id of a new child, or how one has ended (None)."""
        assert self._server is not None
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the fork server is gone")
        said = json.loads(line)
        if "code" not in said:
            return int(said["pid"])
        self._ended[said["pid"]] = said["code"]
        return None

    def exit_code(self, pid: int) -> int | None:
        """None while it runs; as with Popen.returncode, below zero for a signal."""
        with self._lock:
            assert self._server is not None
            assert self._server.stdout is not None
            while select.select([self._server.stdout], [], [], 0)[0]:
                self._read()
            return self._ended.get(pid)

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate(timeout=10)
            self._server = None


class Forked:
    """As much of subprocess.Popen as tests need."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve() -> dict[str, Any] | None:
    """In a child: the request that it is to fulfil. None, in the server, when nobody asks any more."""
    alarm, ring = socket.socketpair()
    alarm.setblocking(False)
    ring.setblocking(False)
    signal.set_wakeup_fd(ring.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = b""
    while True:
        readable = select.select([sys.stdin.fileno(), alarm.fileno()], [], [])[0]
        if alarm.fileno() in readable:
            alarm.recv(4096)
            _reap()
        if sys.stdin.fileno() in readable:
            if not (read := os.read(0, 65_536)):
                return None
            *lines, requests = (requests + read).split(b"\n")
            for line in lines:
                request: dict[str, Any] = json.loads(line)
                if not _fork(request):
                    return request


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(pid=pid, code=os.waitstatus_to_exitcode(status))


def _say(**said: int) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def _fork(request: dict[str, Any]) -> bool:
    """False in the child. Who asked hears of it as soon as it leads its own process group."""
    ready, begun = os.pipe()
    if not (pid := os.fork()):
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), 1)
        os.dup2(1, 2)
        os.closerange(3, 1024)
        return False
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    _say(pid=pid)
    return True


def main() -> None:
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # an extra that is not installed
            continue
    gc.freeze()
    if request := serve():
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv[:] = request["command"]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
