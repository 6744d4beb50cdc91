"""`make demo` on a small scale: real processes, every task accounted for, nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, Process, wait_for

StartDemo = Callable[..., Process]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[StartDemo]:
    """Starts the demo in a directory of its own, at which its processes can be told from others'."""
    started: list[Process] = []

    def start(*arguments: str, **env: str) -> Process:
        command = [sys.executable, "-m", "testproject.demo", "--directory", str(tmp_path / "demo"), *arguments]
        # The settings of the test run are not the demo's.
        clean = dict.fromkeys(("REDIS_URL", "REDIS_ADDR"), "")
        process = Process(command, tmp_path / "demo.log", {**clean, "PYTHONUNBUFFERED": "1", **env})
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
        print(process.output())


def left_running(directory: Path) -> list[str]:
    """Processes with the directory in their arguments or environment, the test's own apart."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(directory / "demo").encode() in text and int(process.name) != os.getpid():
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def row(output: str, name: str) -> list[str]:
    found = re.search(rf"^{name} +(.+)$", output, re.MULTILINE)
    assert found, output
    return found[1].split()


def test_once_accounts_for_every_task_and_leaves_nothing_running(demo: StartDemo, tmp_path: Path) -> None:
    process = demo("--once", "--mails", "40", "--pictures", "2", "--spread", "2", EMAIL_FAILURE_RATE="0.2")
    assert process.wait(90) == 0, process.output()
    output = process.output()
    sent, succeeded, retried, dead, *_ = map(int, row(output, "e-mail")[:4])
    assert (sent, succeeded + dead) == (40, 40)
    assert retried > 0
    assert row(output, "bad order")[:4] == ["1", "0", "1", "1"]
    assert row(output, "total")[0] == "43"
    assert "SMTP server temporarily unavailable" in output
    assert "order 4711 has no address" in output
    assert "UNACCOUNTED" not in output
    mails = b"".join(path.read_bytes() for path in (tmp_path / "demo/mails").glob("*.log"))
    assert len(set(re.findall(rb"^To: (\S+)$", mails, re.MULTILINE))) == succeeded
    assert left_running(tmp_path) == []


@pytest.mark.long
def test_ctrl_c_stops_everything(demo: StartDemo, tmp_path: Path) -> None:
    process = demo("--mails", "3", "--pictures", "1", "--spread", "1")
    process.wait_for_output("Ctrl-C stops everything", 60)
    assert re.search(r"user: admin   password: \S+", process.output())
    assert len(left_running(tmp_path)) >= 4  # the demo, a server with its watcher, the web server, the worker
    process.signal(signal.SIGINT)
    assert process.wait(30) == 0
    wait_for(lambda: not left_running(tmp_path), 5, lambda: left_running(tmp_path))


@pytest.mark.long
def test_once_fails_when_something_is_not_settled(demo: StartDemo, tmp_path: Path) -> None:
    process = demo("--once", "--mails", "1", "--pictures", "2", "--spread", "60", "--timeout", "3")
    assert process.wait(60) == 1, process.output()
    assert "UNACCOUNTED FOR: picture" in process.output()
    assert left_running(tmp_path) == []


def test_a_directory_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "testproject.demo", "--directory", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert ended.returncode == 1
    assert "choose another --directory" in ended.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
