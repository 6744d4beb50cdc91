"""A worker whose records go to PostgreSQL, which goes away and comes back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest

from tests.sampleapp.tasks import add
from tests.servers import ROOT, PostgresServer, wait_for

pytestmark = pytest.mark.services


def recorded(postgres: PostgresServer) -> list[tuple[str, str]]:
    """(id, result) of every row."""
    with psycopg.connect(postgres.url) as connection:
        rows = connection.execute("SELECT id, result FROM django_taskq_taskresult ORDER BY id").fetchall()
    return [(str(id), result) for id, result in rows]


@pytest.fixture
def migrated(postgres: PostgresServer, manage_env: dict[str, str]) -> PostgresServer:
    env = {**manage_env, "DATABASE_URL": postgres.url}
    command = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(command, env={**env, "PATH": ""}, check=True, timeout=60)
    return postgres


def test_what_ends_while_the_database_is_away_is_recorded_later(
    migrated: PostgresServer, broker: Any, worker: Any
) -> None:
    process = worker(env={"DATABASE_URL": migrated.url})
    first = add.delay(1, 1)
    wait_for(lambda: recorded(migrated) == [(first.id, "2")], 20, process.output)

    migrated.stop()
    second = add.delay(2, 2)
    assert second.get(timeout=10) == 4  # the outcome waits in Redis
    migrated.start()
    wait_for(lambda: recorded(migrated) == [(first.id, "2"), (second.id, "4")], 30, process.output)
    wait_for(lambda: broker.recorder_lag() == 0, message="an advanced cursor")
