"""A new key comes, an old one goes: what is in use, and what is sealed again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandError

from django_taskq.broker import Broker
from django_taskq.core.sealing import parse_key
from django_taskq.models import DeadTask, OutboxEntry, TaskResult
from django_taskq.opening import shown_row
from django_taskq.requeue import requeue, stored_message
from django_taskq.sealed import opened_message
from tests.commands.conftest import run
from tests.encryption.conftest import K1, K2, with_keys
from tests.encryption.records import CALL, dead_letter, result
from tests.encryption.tasks import SECRET, by_outbox, charge, plain

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db


def usage() -> dict[str, tuple[int, int]]:
    found = json.loads(run("taskq_encryption", "usage", "--json").out)
    return {key: (counts["redis"], counts["database"]) for key, counts in found.items()}


def test_rows_are_sealed_again_and_the_old_key_can_go(broker: Broker, keys: SettingsWrapper) -> None:
    result()
    dead_letter()
    by_outbox.delay(SECRET)
    charge.delay(SECRET)
    charge.using(run_after=timedelta(hours=1)).delay(SECRET)
    plain.delay(SECRET)
    assert usage() == {"k1": (2, 4), "k2": (0, 0)}  # the dead letter has a result, too

    with_keys(keys, {"k2": K2, "k1": K1})
    assert "4 rows are sealed with key k2 now." in run("taskq_encryption", "reseal").out
    assert usage() == {"k2": (0, 4), "k1": (2, 0)}
    assert "0 rows" in run("taskq_encryption", "reseal").out
    charge.delay(SECRET)
    assert usage() == {"k2": (1, 4), "k1": (2, 0)}

    with_keys(keys, {"k2": K2})
    assert usage()["k1"] == (2, 0)
    table = run("taskq_encryption", "usage").out
    assert "unknown here" in table
    done, dead = TaskResult.objects.get(task=charge.name), DeadTask.objects.get()
    assert shown_row(done, may=True).result == f'["{SECRET}"]'
    opened = shown_row(dead, may=True)
    assert opened.error_message == f"no money on {SECRET}"
    assert [each["error_message"] for each in opened.attempts_history] == [opened.error_message] * 2
    assert opened_message(stored_message(dead)).args == CALL
    assert requeue(dead) == "sent"
    assert OutboxEntry.objects.get().call.count(b"$sealed:1:k2:") == 1


def test_what_cannot_be_opened_stays_and_is_counted(broker: Broker, keys: SettingsWrapper) -> None:
    row = result()
    with_keys(keys, {"k2": K2})
    said = run("taskq_encryption", "reseal")
    assert said.code == 1
    assert "1 could not be opened" in said.err
    assert TaskResult.objects.get().args == row.args


def test_a_new_key_needs_no_settings(keys: SettingsWrapper) -> None:
    with_keys(keys, {})
    assert len(parse_key(run("taskq_encryption", "new").out)) == 32
    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        run("taskq_encryption", "reseal")
