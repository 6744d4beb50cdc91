"""A project as it starts: tasks that are imported before the apps are ready, and checks that nothing imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.backend.api import NAME
from tests.servers import ROOT

PROJECT = """
import json, sys
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS={"default": {"BACKEND": "django_taskq.backend.TaskqBackend", "OPTIONS": {"retries": 1}}},
    TASKQ={"BROKER": "redis://127.0.0.1:1/0"},  # nobody listens there
)
if sys.argv[1:]:
    import early
    assert early.send.name == "send"
django.setup()
from django.core.checks import run_checks
from django_taskq import registry
found = [message.id for message in run_checks(databases=[])]
print(json.dumps([found, registry.lookup("early.send") is not None]))
"""
EARLY = f"""
from {NAME} import task

@task
def send():
    pass
"""


def start(directory: Path, *arguments: str) -> list[object]:
    (directory / "early.py").write_text(EARLY)
    (directory / "project.py").write_text(PROJECT)
    ran = subprocess.run(
        [sys.executable, str(directory / "project.py"), *arguments], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found: list[object] = json.loads(ran.stdout)
    return found


def test_the_checks_of_tasks_run_though_nothing_imported_it(tmp_path: Path) -> None:
    assert start(tmp_path) == [["django_taskq.E008"], False]


def test_a_task_may_be_declared_before_the_apps_are_ready(tmp_path: Path) -> None:
    assert start(tmp_path, "early") == [["django_taskq.E008"], True]
