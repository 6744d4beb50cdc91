"""What operators see of the outbox."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from django_taskq import outbox
from django_taskq.broker import Broker
from django_taskq.models import OutboxEntry
from tests.commands.conftest import run
from tests.outbox.conftest import age
from tests.outbox.tasks import add


def refuse(handle: Any) -> None:
    OutboxEntry.objects.filter(task_id=handle.id).update(state="refused", error="not this one")


def test_the_status_says_what_waits_and_what_was_refused(outbox_broker: Broker) -> None:
    assert "outbox" not in run("taskq_status").out
    handles = [add.delay(number) for number in range(3)]
    refuse(handles[0])
    age(120)
    text = run("taskq_status").out
    assert "2 tasks wait in the outbox of 'default', for 2 min." in text
    assert "1 tasks in the outbox of 'default' were refused" in text
    [found] = run("taskq_status", "--json").json["outboxes"]
    assert (found["database"], found["waiting"], found["refused"]) == ("default", 2, 1)
    assert found["oldest"] == pytest.approx(120, abs=3)


def test_without_the_database_the_rest_is_said(outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(alias: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(outbox, "_backlog", away)
    assert run("taskq_status", "--json").json["outboxes"] == []


def test_a_project_without_it_pays_no_query(
    outbox_broker: Broker, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "all_tasks", list)
    with django_assert_num_queries(0):
        assert outbox.backlogs() == []
