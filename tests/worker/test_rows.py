"""Rows as arguments, read by a worker: as they are by then, from the database that they came from, or gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction

from django_taskq import TaskFailed
from django_taskq.models import DeadTask, TaskResult
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.tasks import rows
from tests.worker.archived import ARCHIVE, add_archive, where


@pytest.fixture
def archive(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "archive.sqlite3")
    add_archive(path)
    connection = connections[ARCHIVE]
    # Django lets a test connect to the databases of the settings only.
    connection.ensure_connection = lambda: connection.connection or connection.connect()
    connection.__dict__.pop("cursor", None)
    with connection.schema_editor() as editor:
        editor.create_model(ContentType)
    yield path
    connection.close()
    del connections[ARCHIVE]
    del connections.databases[ARCHIVE]


def test_a_worker_reads_rows(worker: StartWorker, archive: str) -> None:
    ada, grace = User.objects.create(username="ada"), User.objects.create(username="grace")
    team = Group.objects.create(name="team")
    new, old = (ContentType(pk=4711, app_label="shop", model=name) for name in ("new", "old"))
    new.save()
    old.save(using=ARCHIVE)
    with transaction.atomic():
        ada.username = "ada lovelace"
        ada.save()
        sent = [rows.greet.delay_on_commit(ada, team), rows.greet_soon.delay_on_commit(ada)]
    both = [where.delay(new), where.delay(old)]
    gone, must_be_there = rows.greet.delay(grace), rows.must_be_there.using(max_retries=0).delay(grace)
    key = grace.pk
    grace.delete()

    worker("--threads", "2", tasks=["tests.worker.archived"], env={"TASKQ_TEST_ARCHIVE": archive})
    assert [handle.get(timeout=10) for handle in sent] == ["ada lovelace team default False", "ada lovelace"]
    assert [handle.get(timeout=10) for handle in both] == ["new of default", "old of archive"]
    text = f"row_gone: auth.user {key} is not in the database 'default'"
    with pytest.raises(TaskFailed, match=text):
        gone.get(timeout=10)
    with pytest.raises(TaskFailed, match=text):
        must_be_there.get(timeout=10)
    assert (gone.status, must_be_there.status) == ("discarded", "failed")
    wait_for(lambda: TaskResult.objects.count() == 6, 10)
    ended = TaskResult.objects.get(pk=gone.id)
    assert (ended.status, ended.reason, ended.attempts) == ("discarded", text, 1)
    dead = DeadTask.objects.get()
    assert (dead.reason, dead.error_class, dead.error_message) == ("failed", "django_taskq.exceptions.RowGone", text)
