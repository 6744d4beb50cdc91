"""Looks up how a task ended, once Redis has forgotten it."""

from __future__ import annotations

import uuid

from django.db import router

from django_taskq.models import TaskResult


def find_record(id: bytes) -> TaskResult | None:
    """The row of a task's newest recorded run, by its id of 16 bytes; None when there is none.

    Reads where the recorder writes: a replica that lags would make a task that has ended look unknown.
    """
    return TaskResult.objects.using(router.db_for_write(TaskResult)).filter(pk=uuid.UUID(bytes=id)).first()
