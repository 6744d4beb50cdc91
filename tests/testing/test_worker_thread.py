"""The fixture `taskq_worker`, and the plugin in a project that only has it installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction

import django_taskq_pytest as pytest_plugin
from django_taskq import producer
from django_taskq.models import TaskResult
from django_taskq.testing.worker_thread import WorkerThread
from tests.servers import ROOT
from tests.testing import tasks

taskq_worker, taskq_embedded = pytest_plugin.taskq_worker, pytest_plugin.taskq_embedded


@pytest.fixture
def counter() -> Iterator[None]:
    yield
    producer.set_counter(None)


@pytest.mark.django_db(transaction=True)
def test_tasks_run_in_threads_of_this_process(taskq_worker: WorkerThread, counter: None) -> None:
    told: list[tuple[str, str]] = []
    producer.set_counter(lambda task, queue: told.append((task, queue)))
    tasks.tries.clear()
    handle, coroutine = tasks.flaky.using(run_after=0.05).delay(1), tasks.later.delay(4)
    assert (handle.get(timeout=10), coroutine.get(timeout=10)) == (1, 5)
    assert tasks.tries == [1]
    assert taskq_worker.record() == 2
    assert TaskResult.objects.get(pk=handle.id).worker == taskq_worker.id
    assert len(told) == 2  # a worker process counts by itself; this process' own counter is left alone


@pytest.mark.django_db(transaction=True)
def test_what_is_committed_to_the_outbox_is_sent(taskq_worker: WorkerThread) -> None:
    with transaction.atomic():
        handle = tasks.through_outbox.delay(7)
    assert handle.get(timeout=10) == 7


PROJECT = """
from django.conf import settings
from django_taskq import task

settings.configure(INSTALLED_APPS=["django_taskq"], DATABASES={})

import django
django.setup()

@task
def add(a: int, b: int) -> int:
    return a + b

def test_collected(taskq):
    add.delay(1, 2)
    taskq.assert_enqueued(add, args=(1, 2), count=1)

def test_begins_with_nothing(taskq):
    taskq.assert_not_enqueued()

def test_by_a_worker(taskq_worker):
    assert add.delay(1, 2).get(timeout=10) == 3
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    others = ["django", "cacheprovider", "anyio", "hypothesispytest", "schemathesis", "valkey", "xdist"]
    command = [sys.executable, "-m", "pytest", "-q", *(f"-pno:{name}" for name in others), *arguments]
    return subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_project_finds_the_fixtures_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(PROJECT)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_project_without_django_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_plain():\n    assert 'django.db' not in sys.modules and 'redis' not in sys.modules\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
