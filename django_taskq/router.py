"""A database router that keeps the records on the database `TASKQ["DATABASE"]` names.

API tokens are no records: each belongs to a user, so they live where users do. Nor are the entries of the outbox, which
are written beside what they belong to: they live wherever `TASKQ["OUTBOX_DATABASES"]` says.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import Model

from django_taskq.conf import get_settings

APP_LABEL = "django_taskq"
TOKEN = "apitoken"  # noqa: S105  (the name of a model)
ENTRY = "outboxentry"


class TaskqRouter:
    """Add `"django_taskq.router.TaskqRouter"` to DATABASE_ROUTERS, before routers that would claim every app."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The records' database, or no opinion. Entries of the outbox are asked for by alias; this is the first one."""
        if model._meta.app_label != APP_LABEL:
            return None
        if model._meta.model_name == ENTRY:
            return get_settings().outbox_databases[0]
        return _of_users() if model._meta.model_name == TOKEN else get_settings().database

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """The records' tables are made there and nowhere else; what else goes there is not ours to say."""
        if app_label != APP_LABEL:
            return None
        if model_name == ENTRY:
            return db in get_settings().outbox_databases
        return db == (_of_users() if model_name == TOKEN else get_settings().database)


def _of_users() -> str:
    return router.db_for_write(get_user_model())
