"""`run` calls a command here, `manage` starts one as a shell would, `manage.on_terminal` on a terminal of its own."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command

from django_taskq.bulk import Writer
from django_taskq.core.outcome import Outcome
from tests.records.outcomes import entries
from tests.servers import ROOT

CTRL_C = "\x03"


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*words: str) -> Result:
    """Its exit code and what it printed; a CommandError is raised."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command(*words, stdout=out, stderr=err)
    except SystemExit as exit:
        code = int(exit.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def record(*outcomes: Outcome) -> None:
    Writer().write(entries(*outcomes))


class Manage:
    """`manage.py` as its users know it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {**os.environ, **env}
        self.command = [sys.executable, str(ROOT / "manage.py")]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.command, *words], env=self.env, text=True, cwd=ROOT, **options)

    def __call__(self, *words: str, **options: Any) -> Result:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = self.start(*words, **pipes)
        out, err = process.communicate(timeout=60)
        return Result(process.returncode, out or "", err or "")

    def on_terminal(self, *words: str, answers: str = "", out: bool = True) -> Result:
        """All on a terminal, `out` False: standard output in a pipe. `answers` are typed as soon as it asks."""
        ours, theirs = pty.openpty()
        try:
            process = self.start(*words, stdin=theirs, stderr=theirs, stdout=theirs if out else subprocess.PIPE)
        finally:
            os.close(theirs)
        shown = _talk(ours, process, answers)
        rest, _ = process.communicate(timeout=10)
        return Result(process.returncode, shown if out else rest, shown)


def _talk(terminal: int, process: subprocess.Popen[str], answers: str) -> str:
    """What is shown until the process ends."""
    shown, deadline, interrupted = b"", time.monotonic() + 60, math.inf
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if not select.select([terminal], [], [], 0.05)[0]:
            if ended:
                break
            if time.monotonic() - interrupted > 3:  # Python misses one that comes just before it blocks in a read
                process.send_signal(signal.SIGINT)
                interrupted = time.monotonic()
            continue
        try:
            shown += os.read(terminal, 65_536)
            interrupted = math.inf
        except OSError:  # Linux' way to say that nobody has it open any more
            break
        if answers and shown.rstrip().endswith((b"[y/N]", b"to go on:")):
            if answers == CTRL_C:
                process.send_signal(signal.SIGINT)
                interrupted = time.monotonic()
            else:
                os.write(terminal, answers.encode())
            answers = ""
    os.close(terminal)
    return shown.decode()


@pytest.fixture
def manage(manage_env: dict[str, str]) -> Manage:
    return Manage(manage_env)
