"""Apps that know nothing but `django.tasks`, each doing what it is for, with a worker of ours.

Run by `make test-apps`, in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from django_taskq.models import TaskResult
from tests.apps.shop import tasks
from tests.conftest import StartWorker
from tests.servers import ROOT, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def notes(manage_env: dict[str, str]) -> Path:
    """What `note()` writes, in the worker and here."""
    directory = Path(manage_env["DATA_DIR"])
    directory.mkdir(exist_ok=True)
    return directory / "notes"


@pytest.fixture
def site(worker: StartWorker, manage_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A worker of the site; the environment for its other commands."""
    worker("--threads", "4", env={"DJANGO_SETTINGS_MODULE": "tests.apps.settings"})
    return {**manage_env, "DJANGO_SETTINGS_MODULE": "tests.apps.settings"}


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("ada", "ada@example.com", "x"))
    return client


def test_a_monitor_sees_every_task_and_retries_a_failed_one(site: dict[str, str], staff: Client) -> None:
    from tasks_monitor.models import TaskRecord
    from tasks_monitor.retry import retry

    good, bad = tasks.succeed.enqueue(1), tasks.fail.enqueue(2)
    wait_for(lambda: TaskRecord.objects.filter(status="SUCCESSFUL").count() == 1, 10)
    record = wait_for(lambda: TaskRecord.objects.filter(status="FAILED").first(), 10)
    assert (record.result_id, record.exception_class, record.attempts) == (bad.id, "builtins.ValueError", 1)
    assert "no 2" in record.traceback
    again = retry(record)
    wait_for(lambda: TaskRecord.objects.get(pk=again.pk).status == "FAILED", 10)
    assert bad.task.module_path in staff.get("/admin/tasks_monitor/taskrecord/").content.decode()
    good.refresh()
    assert good.return_value == 2


def test_a_backfill_runs_batch_by_batch(site: dict[str, str]) -> None:
    from maintenance_tasks import runner
    from maintenance_tasks.models import Run

    users = get_user_model()
    users.objects.bulk_create([users(username=f"user{number}") for number in range(7)])
    run = runner.start("tests.apps.shop.maintenance_tasks.NameUsers")
    wait_for(lambda: Run.objects.get(pk=run.pk).status == "succeeded", 15, lambda: vars(Run.objects.get(pk=run.pk)))
    assert not users.objects.filter(last_name="").exists()
    assert wait_for(lambda: TaskResult.objects.filter(task="maintenance_tasks.runner.run_batch").count() >= 3, 10)


def test_a_cron_process_sends_and_the_worker_runs(site: dict[str, str], notes: Path) -> None:
    command = [sys.executable, "manage.py", "crontask", "--no-heartbeat"]
    scheduler = subprocess.Popen(command, cwd=ROOT, env={**_path(), **site}, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: notes.exists() and notes.read_text().count("every second") >= 2, 20)
    finally:
        scheduler.terminate()
        scheduler.communicate(timeout=10)


def test_a_schedule_in_the_database_is_kept(site: dict[str, str], notes: Path) -> None:
    from django_periodic_tasks.models import ScheduledTask
    from django_periodic_tasks.scheduler import PeriodicTaskScheduler
    from django_periodic_tasks.sync import sync_code_schedules

    sync_code_schedules()
    ScheduledTask.objects.filter(name="every-minute").update(next_run_at=timezone.now() - timedelta(seconds=1))
    PeriodicTaskScheduler(interval=1).tick()
    wait_for(lambda: notes.exists() and "minute" in notes.read_text(), 10)
    assert ScheduledTask.objects.get(name="every-minute").total_run_count == 1


def test_a_dashboard_that_retries_by_itself(site: dict[str, str], staff: Client) -> None:
    from overseer.models import Job

    tasks.stubborn.enqueue()
    job = wait_for(lambda: Job.objects.filter(status="SUCCEEDED").first(), 15, lambda: list(Job.objects.values()))
    assert [run.status for run in job.runs.order_by("attempt")] == ["FAILED", "FAILED", "SUCCESSFUL"]
    assert staff.get("/overseer/").status_code == 200
    assert staff.get(f"/overseer/jobs/{job.pk}/").status_code == 200


def test_a_cms_indexes_and_cleans_up_through_it(site: dict[str, str], settings: SettingsWrapper) -> None:
    from wagtail.documents.models import Document
    from wagtail.models import Collection
    from wagtail.search.backends import get_search_backend

    settings.MEDIA_ROOT = Path(site["DATA_DIR"], "media")  # the worker's
    Collection.add_root(name="Root")
    document = Document.objects.create(title="Prices", file=ContentFile(b"1 EUR", "prices.txt"))
    indexing = {"modelsearch.tasks.insert_or_update_object_task", "wagtail.tasks.update_reference_index_task"}
    wait_for(lambda: indexing <= set(TaskResult.objects.filter(status="succeeded").values_list("task", flat=True)), 10)
    assert list(get_search_backend().search("Prices", Document)) == [document]
    path = Path(document.file.path)
    assert path.exists()
    document.delete()
    wait_for(lambda: not path.exists(), 10)
    assert not TaskResult.objects.exclude(status="succeeded").exists()


def _path() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
