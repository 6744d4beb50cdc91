"""A worker whose records go to PostgreSQL, which goes away and comes back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest

from django_taskq.broker import Broker
from django_taskq.core.ids import id_to_str
from django_taskq.core.outcome import Outcome, encode_outcome
from tests.records.outcomes import settle, succeeded
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
    with psycopg.connect(postgres.url) as connection:  # the cluster is the run's: others have left rows
        connection.execute("TRUNCATE django_taskq_taskresult, django_taskq_deadtask")
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


def test_a_deadlock_with_the_recorder_loses_nothing(migrated: PostgresServer, broker: Any, worker: Any) -> None:
    """Somebody locks the rows of one batch the other way round: whoever the database gives up, all is recorded."""
    process = worker(env={"DATABASE_URL": migrated.url})
    first, second = succeeded(), succeeded()
    before = len(recorded(migrated))
    settle(broker, first, second)
    wait_for(lambda: len(recorded(migrated)) == before + 2, 20, process.output)
    lock = "UPDATE django_taskq_taskresult SET reason = reason WHERE id = %s"
    with psycopg.connect(migrated.url) as other:
        other.execute(lock, [id_to_str(second.id)])
        settle_at_once(broker, succeeded(id=first.id, run=2), succeeded(id=second.id, run=2))
        wait_for(lambda: waits_for_a_lock(migrated), 10, process.output)
        try:
            other.execute(lock, [id_to_str(first.id)])
        except psycopg.errors.DeadlockDetected:
            other.rollback()
    wait_for(lambda: broker.recorder_lag() == 0, 20, process.output)
    ids = [id_to_str(first.id), id_to_str(second.id)]
    with psycopg.connect(migrated.url) as connection:
        rows = connection.execute(
            "DELETE FROM django_taskq_taskresult WHERE id = ANY(%s) RETURNING run", [ids]
        ).fetchall()
    assert rows == [(2,), (2,)]


def settle_at_once(broker: Broker, *outcomes: Outcome) -> None:
    """So that they are one batch."""
    added = [("XADD", broker.keys.outcomes, "*", "i", each.id, "o", encode_outcome(each)) for each in outcomes]
    connection = broker.connections.open()
    connection.send_packed_command(connection.pack_commands([("MULTI",), *added, ("EXEC",)]))
    for _ in range(len(added) + 2):
        connection.read_response()
    connection.disconnect()


def waits_for_a_lock(postgres: PostgresServer) -> bool:
    with psycopg.connect(postgres.url) as connection:
        found = connection.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return found is not None
