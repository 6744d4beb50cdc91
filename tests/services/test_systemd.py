"""The units of deploy/systemd, as systemd itself reads them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from django_taskq.worker.nursery import MAINTENANCE_PATIENCE
from django_taskq.worker.supervisor import KILL_AFTER
from tests.servers import ROOT

pytestmark = pytest.mark.services

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
OF_WORKER = (ROOT / "deploy" / "systemd" / "shop-worker.service").read_text(encoding="utf-8")


def verified(directory: Path, *, changed: tuple[str, str] = ("", "")) -> subprocess.CompletedProcess[str]:
    """The units with programs and a user that this machine has: systemd-analyze looks for them."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(*changed)
        text = re.sub(r"/srv/shop/\.venv/bin/\w+", sys.executable, text)
        text = re.sub(r"^(User|Group)=shop$", r"\1=root", text, flags=re.MULTILINE)
        (directory / unit.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes"]
    units = [str(directory / unit.name) for unit in UNITS]
    return subprocess.run([*command, *units], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    ended = verified(tmp_path)
    ours = [line for line in ended.stderr.splitlines() if str(tmp_path) in line or "shop-" in line]
    assert (ended.returncode, ours) == (0, [])


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    ended = verified(tmp_path, changed=("WatchdogSec=30", "WatchdogSec=soon"))
    assert ended.returncode != 0
    assert "Failed to parse" in ended.stderr


def test_systemd_waits_longer_than_a_worker_may_take_to_stop() -> None:
    [grace] = re.findall(r"--shutdown-timeout (\d+)", OF_WORKER)
    [patience] = re.findall(r"^TimeoutStopSec=(\d+)$", OF_WORKER, re.MULTILINE)
    assert int(patience) > int(grace) + KILL_AFTER + MAINTENANCE_PATIENCE
    [watchdog] = re.findall(r"^WatchdogSec=(\d+)$", OF_WORKER, re.MULTILINE)
    assert int(watchdog) > MAINTENANCE_PATIENCE
