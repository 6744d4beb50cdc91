"""A database router that keeps the records on the database `TASKQ["DATABASE"]` names."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from django_taskq.conf import get_settings

APP_LABEL = "django_taskq"


class TaskqRouter:
    """Add `"django_taskq.router.TaskqRouter"` to DATABASE_ROUTERS, before routers that would claim every app."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The records' database, or no opinion."""
        return get_settings().database if model._meta.app_label == APP_LABEL else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """The records' tables are made there and nowhere else; what else goes there is not ours to say."""
        return db == get_settings().database if app_label == APP_LABEL else None
