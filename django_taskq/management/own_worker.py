"""A worker of a command's own: a child process, for as long as the command needs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from django.core.management.base import CommandError

if TYPE_CHECKING:
    from django_taskq.broker import Broker

START = 20.0  # seconds in which it must have registered
STOP = 60.0  # seconds in which it must have ended; longer than it waits for tasks and records


@contextmanager
def own_worker(broker: Broker, queue: str) -> Iterator[None]:
    """Runs `taskq_worker --queues <queue>` with this process' settings and import path; CommandError if it cannot."""
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        raise CommandError("A worker can only be started where DJANGO_SETTINGS_MODULE names the settings.")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    command = [sys.executable, "-m", "django", "taskq_worker", "--queues", queue]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _wait_until_registered(broker, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_registered(broker: Broker, process: subprocess.Popen[bytes], log: TextIO) -> None:
    """A task process' id names its supervisor."""
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        ids = broker.connections.execute("ZRANGE", broker.keys.workers, 0, -1)
        if any(f"-{process.pid}-".encode() in id for id in ids):
            return
        time.sleep(0.05)
    log.seek(0)
    raise CommandError(f"The worker did not start:\n{log.read()[-2000:].strip()}")
