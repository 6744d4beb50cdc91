"""`--reload`: runs the worker in a process of its own and restarts it when a source file of the project changes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.conf import settings

logger = logging.getLogger("django_taskq.worker")

EVERY = 0.5  # seconds


def run_reloading(arguments: list[str]) -> int:
    """Runs `arguments` until Ctrl-C or SIGTERM, anew after each change. Returns its exit code."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, _frame: stopped.append(number))
    while True:
        seen = _snapshot()
        worker = subprocess.Popen(arguments)  # noqa: S603 - the command line this process was started with
        changed = _watch(worker, seen, stopped)
        if worker.poll() is None:
            worker.terminate()
        code = worker.wait()
        if stopped:
            return code
        logger.info("%s changed: the worker starts again", changed)


def _watch(worker: subprocess.Popen[bytes], seen: dict[Path, float], stopped: list[int]) -> str:
    """What changed, or '' when this process was told to stop. A worker that failed to start waits for a change."""
    failed = False
    while not stopped:
        time.sleep(EVERY)
        if worker.poll() is not None and not failed:
            failed = True
            logger.error("the worker ended with code %d; it starts again after the next change", worker.returncode)
        now = _snapshot()
        if now != seen:
            return ", ".join(sorted(str(path) for path, _ in set(now.items()) ^ set(seen.items()))[:3])
    return ""


def _snapshot() -> dict[Path, float]:
    """Modification times of the project's own Python files."""
    found = {}
    for root in _roots():
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            for name in files:
                if name.endswith(".py"):
                    path = Path(folder, name)
                    try:
                        found[path] = path.stat().st_mtime
                    except OSError:
                        continue  # just deleted
    return found


def _roots() -> Iterator[str]:
    """Folders of installed apps and of the settings module, without what pip installed."""
    yielded: set[str] = set()
    settings_module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", ""))
    candidates = [config.path for config in apps.get_app_configs()]
    if settings_module is not None and settings_module.__file__:
        candidates.append(str(Path(settings_module.__file__).parent))
    for path in candidates:
        if "site-packages" not in path and "dist-packages" not in path and path not in yielded:
            yielded.add(path)
            yield path
