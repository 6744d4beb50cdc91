"""Database connections of threads that run tasks: closed as around a request, at no cost where there are none."""

from __future__ import annotations

import threading
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created


class _Database(threading.local):
    """Whether this thread has opened a database connection that may still be open."""

    opened = False


_database = _Database()


def _note_connection(**_: Any) -> None:
    _database.opened = True


connection_created.connect(_note_connection, dispatch_uid="django_taskq.worker.database")


def close_stale_connections() -> None:
    """What Django does around a request. Tasks that do not use the database do not pay for it."""
    if _database.opened:
        _database.opened = False
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()
            if connection.connection is not None:
                _database.opened = True
