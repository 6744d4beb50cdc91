"""The demo's processes: the queue's server, the web server, the worker. Whatever happens, they end with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

from django_taskq import embedded
from django_taskq.broker import get_broker

START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 10.0


class ChildDied(Exception):
    """A process of the demo ended by itself."""


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.worker_log = directory / "worker.log"
        self.url = ""
        self._children: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def __enter__(self) -> Self:
        # Of a demo that was killed, before its files are deleted.
        self._stop_broker()
        return self

    def __exit__(self, *exc: object) -> None:
        # Ending takes a few seconds at most: a second Ctrl-C must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process, _ in self._children.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process, _ in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._stop_broker()

    @property
    def _broker(self) -> str:
        return str(settings.TASKQ["BROKER"])

    def _stop_broker(self) -> None:
        if self._broker.startswith(embedded.SCHEME):
            embedded.stop(self._broker)

    def start_broker(self) -> str:
        get_broker().time()
        return "a server of its own (embedded://)" if self._broker.startswith(embedded.SCHEME) else "REDIS_URL"

    def migrate(self, password: str) -> str:
        """Create the database and a superuser `admin`."""
        call_command("migrate", verbosity=0)
        get_user_model()._default_manager.create_superuser("admin", "admin@example.com", password)
        return str(settings.DATABASES["default"]["NAME"])

    def start_web(self) -> str:
        """Start Django's web server on port 8000, or a free one, and return its address once it answers."""
        port = _free_port(8000)
        self.url = f"http://127.0.0.1:{port}"
        self._start("web server", "web.log", "runserver", "--noreload", f"127.0.0.1:{port}")
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            self.check()
            with suppress(URLError, OSError), urlopen(self.url, timeout=5):
                return f"{self.url}/"
            time.sleep(0.05)
        raise ChildDied(f"the web server does not answer; see {self.directory / 'web.log'}")

    def start_worker(self) -> str:
        arguments = ["--threads", str(settings.WORKER_CONCURRENCY), "--shutdown-timeout", "5"]
        shown = f"{settings.WORKER_CONCURRENCY} threads, log in {self.worker_log}"
        if settings.METRICS_PORT:
            port = _free_port(settings.METRICS_PORT)
            arguments += ["--metrics-port", str(port)]
            shown += f", metrics at http://127.0.0.1:{port}/metrics"
        self._start("worker", self.worker_log.name, "taskq_worker", *arguments)
        return shown

    def _start(self, name: str, log: str, *arguments: str) -> None:
        path = self.directory / log
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
        with path.open("wb") as output:
            # Its own session: a Ctrl-C in the terminal reaches the demo alone, which then stops the others in order.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._children[name] = (process, path)

    def check(self) -> None:
        """Raise ChildDied, with the end of its log, if one of the processes has ended."""
        for name, (process, log) in self._children.items():
            if (code := process.poll()) is not None:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ChildDied(f"the {name} ended with exit code {code}:\n{tail}")


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port")
