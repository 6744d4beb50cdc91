"""Several databases: an entry is where its transaction is, and each has a relay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction

from django_taskq import get_task
from django_taskq.broker import Broker
from django_taskq.core.ids import id_from_str
from django_taskq.models import ApiToken, OutboxEntry, TaskResult
from django_taskq.outbox import Backlog, backlogs
from django_taskq.relay import Relay
from django_taskq.router import TaskqRouter
from django_taskq.worker.maintenance import Maintenance
from tests.outbox.tasks import add

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def billing(taskq: SettingsWrapper, tmp_path: Path) -> Iterator[str]:
    """The alias of a second database, an SQLite file, that has an outbox, too."""
    alias = "billing"
    taskq.TASKQ = {**taskq.TASKQ, "OUTBOX_DATABASES": ["default", alias]}
    connections.databases[alias] = {
        **connections.databases["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "billing.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
    connection = connections[alias]
    # Django lets a test connect to the databases of the settings only.
    connection.ensure_connection = lambda: connection.connection or connection.connect()
    connection.__dict__.pop("cursor", None)
    with connection.schema_editor() as editor:
        editor.create_model(OutboxEntry)
    yield alias
    connection.close()
    del connections[alias]
    del connections.databases[alias]


def where(*ids: str) -> list[list[str]]:
    """In which databases each is."""
    known = {alias: {str(id) for id in _ids(alias)} for alias in ("default", "billing")}
    return [[alias for alias in known if id in known[alias]] for id in ids]


def _ids(alias: str) -> list[object]:
    return list(OutboxEntry.objects.using(alias).values_list("task_id", flat=True))


def test_the_entry_goes_where_the_transaction_is_open(billing: str) -> None:
    outside = add.delay(1).id
    with transaction.atomic(using=billing):
        inside = add.delay(2).id
        many = add.delay_many([((3,), {})])[0].id
        with transaction.atomic():
            both = add.delay(4).id
            chosen = add.using(database=billing).delay_on_commit(5).id
    with transaction.atomic():
        default = add.delay(6).id
        named = add.using(database=billing).delay(7).id
    assert where(outside, inside, many, both, chosen, default, named) == [
        ["default"], [billing], [billing], ["default"], [billing], ["default"], [billing],
    ]  # fmt: skip


def test_what_one_of_them_rolls_back_the_other_does_not(billing: str) -> None:
    with transaction.atomic(using=billing):
        with transaction.atomic():
            kept = add.using(database="default").delay(1).id
        gone = add.using(database=billing).delay(2).id
        transaction.set_rollback(True, using=billing)
    assert where(kept, gone) == [["default"], []]


def test_each_has_a_relay_of_its_own(billing: str, outbox_broker: Broker) -> None:
    ids = [add.using(database=alias).delay(1).id for alias in ("default", billing)]
    assert [get_task(id).status for id in ids] == ["queued", "queued"]
    assert [(one.database, one.waiting) for one in backlogs()] == [("default", 1), (billing, 1)]
    relays = [Relay(outbox_broker, alias) for alias in ("default", billing)]
    assert [relay.run_once() for relay in relays] == [1, 1]
    assert [found.state for found in outbox_broker.find([id_from_str(id) for id in ids])] == ["queued", "queued"]
    assert all(relay.holding for relay in relays)
    assert backlogs() == [Backlog("default", 0, 0, None), Backlog(billing, 0, 0, None)]
    served = Maintenance(outbox_broker, None, "me").services  # type: ignore[arg-type]
    assert {name for name in served if name.startswith("relay")} == {"relay-default", "relay-billing"}


def test_a_cancelled_entry_goes_from_where_it_is(billing: str) -> None:
    handle = add.using(database=billing).delay(1)
    assert handle.cancel() is True
    assert where(handle.id) == [[]]


def test_the_router_makes_the_table_where_the_outbox_is(taskq: SettingsWrapper) -> None:
    taskq.TASKQ = {**taskq.TASKQ, "DATABASE": "records", "OUTBOX_DATABASES": ["default", "billing"]}
    router = TaskqRouter()
    assert [
        [router.allow_migrate(alias, "django_taskq", name) for name in ("outboxentry", "taskresult", "apitoken")]
        for alias in ("default", "billing", "records")
    ] == [[True, False, True], [True, False, False], [False, True, False]]
    assert router.db_for_write(OutboxEntry) == router.db_for_read(OutboxEntry) == "default"
    assert (router.db_for_write(TaskResult), router.db_for_write(ApiToken)) == ("records", "default")
