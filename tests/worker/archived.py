"""Tasks that are given rows, in a process with a second database, `archive`, where TASKQ_TEST_ARCHIVE says."""

from __future__ import annotations

import os

from django.contrib.contenttypes.models import ContentType
from django.db import connections

from django_taskq import task
from tests.tasks import rows  # noqa: F401 - its tasks run here

ARCHIVE = "archive"


def add_archive(path: str) -> None:
    """From now on this process knows that database, an SQLite file."""
    default = connections.databases["default"]
    engine = "django.db.backends.sqlite3"
    connections.databases[ARCHIVE] = {**default, "ENGINE": engine, "NAME": path, "OPTIONS": {}}


if "TASKQ_TEST_ARCHIVE" in os.environ:  # in the worker
    add_archive(os.environ["TASKQ_TEST_ARCHIVE"])


@task
def where(kind: ContentType) -> str:
    return f"{kind.model} of {kind._state.db}"
