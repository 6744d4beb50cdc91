"""Tasks that encrypt are known to this process in these tests only: others change TASKQ and have no keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from django_taskq import registry
from django_taskq.core.sealing import new_key
from tests.encryption import tasks

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.servers import RedisServer

DECLARED = (
    tasks.charge, tasks.decline, tasks.give_up, tasks.forgotten, tasks.odd, tasks.log_in, tasks.together,
    tasks.by_outbox, tasks.plain,
)  # fmt: skip
NAMES = [*(task.name for task in DECLARED), tasks.of_framework.module_path]
TASKS = [registry._tasks.pop(name) for name in NAMES]
K1, K2 = new_key(), new_key()


@pytest.fixture(autouse=True)
def keys(taskq_settings: SettingsWrapper) -> Iterator[SettingsWrapper]:
    """Django's settings with two keys, of which k1 seals."""
    with_keys(taskq_settings, {"k1": K1, "k2": K2})
    for task in TASKS:
        registry.register(task)
        task.forget_settings()
    yield taskq_settings
    for task in TASKS:
        del registry._tasks[task.name]


def with_keys(settings: SettingsWrapper, keys: dict[str, object], **more: object) -> None:
    settings.TASKQ = {**settings.TASKQ, "ENCRYPTION_KEYS": keys, **more}


def stored(redis_server: RedisServer) -> bytes:
    """All bytes that Redis and the database hold."""
    with redis_server.client() as client:
        found = [client.dump(key) or b"" for key in client.scan_iter(count=1000)]
        for key in client.scan_iter(count=1000):
            if client.type(key) == b"stream":
                found.append(repr(client.xrange(key)).encode())
            if client.type(key) == b"hash":
                found.append(repr(client.hgetall(key)).encode())
    database = sqlite3.connect(connection.settings_dict["NAME"])
    found += ["\n".join(map(str, row)).encode() for row in _rows(database)]
    database.close()
    return b"\n".join(found)


def _rows(database: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    for (table,) in database.execute(
        "SELECT name FROM sqlite_master WHERE name LIKE 'django_taskq%' AND type = 'table'"
    ):
        yield from database.execute(f"SELECT * FROM {table}")
