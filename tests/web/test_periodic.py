"""Periodic tasks in the admin: what is shown, who may do what, what a form takes."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq import Cron, Task, registry
from django_taskq.admin.periodic_form import PeriodicForm
from django_taskq.broker import Broker
from django_taskq.broker.periodic import Tick, Ticks
from django_taskq.core.schedule import id_of_tick
from django_taskq.periodic.sync import synchronise
from django_taskq.periodic_task import PeriodicTask
from django_taskq.signals import operator_action
from tests.broker.helpers import Shard
from tests.records.outcomes import failed, succeeded
from tests.web.conftest import Allowed, record
from tests.web.scene import ESCAPED, HOSTILE, OVERVIEW, Scene, words
from tests.web.scene import page as page_of

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/periodictask/"
HOUR = dt.timedelta(hours=1)


def report(day: str = "today", *, copies: int = 1, options: dict[str, str] | None = None) -> str:
    return day


@pytest.fixture
def now(broker: Broker) -> dt.datetime:
    return dt.datetime.fromtimestamp(broker.time(), dt.UTC)


@pytest.fixture
def declared(broker: Broker, now: dt.datetime, monkeypatch: pytest.MonkeyPatch) -> PeriodicTask:
    """A row that the code of this process declares."""
    monkeypatch.setattr(registry, "_tasks", {})
    schedule = Cron("30 6 * * *", timezone="Europe/Berlin", kwargs={"copies": 2, "options": {"token": "s3cret"}})
    registry.register(Task(report, name="report", cron=schedule))
    synchronise(now)
    return PeriodicTask.objects.get()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """Actions and their targets."""
    found: list[tuple[str, str]] = []
    operator_action.connect(listen := lambda sender, target, **_: found.append((sender, target)))
    yield found
    operator_action.disconnect(listen)


def form(row: PeriodicTask | None = None, **values: str) -> dict[str, str]:
    """What a browser sends of the form."""
    common = {"enabled": "on", "overlap": "on", "catch_up": "once", "timezone": "UTC", "jitter": "0"}
    common |= {"args": "[]", "kwargs": "{}"}
    if row is not None:
        common |= {"cron": row.cron, "timezone": row.timezone, "every": "" if row.every is None else str(row.every)}
    return {key: value for key, value in {**common, **values}.items() if value != "OFF"}


def page(row: PeriodicTask, action: str = "change") -> str:
    return f"{LIST}{row.pk}/{action}/"


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_the_list_and_the_page_say_when_it_runs_and_what_became_of_it(
    admin: Client, broker: Broker, declared: PeriodicTask, now: dt.datetime
) -> None:
    tick = now.replace(microsecond=0) - HOUR
    id = id_of_tick("report", tick)
    PeriodicTask.objects.update(last_tick=tick, last_task=uuid.UUID(bytes=id), since=now)
    Ticks(broker).give_up(Tick("report", 1000, missed=41))
    record(succeeded(id=id))
    for address in (LIST, page(declared)):
        content = admin.get(address).content.decode()
        assert "At 06:30 every day (Europe/Berlin)" in content
        assert f"/admin/django_taskq/taskresult/{uuid.UUID(bytes=id)}/change/" in content
        assert "succeeded" in content
        assert "enabled</span>" in content
    assert "<dd>41</dd>" in content
    assert content.count("<li><time") == 5
    assert "s3cret" not in content
    assert "[redacted 1]" in content


def test_a_list_asks_once_for_all(admin: Client, broker: Broker, now: dt.datetime) -> None:
    def queries(number: int) -> int:
        while PeriodicTask.objects.count() < number:
            name = f"p{PeriodicTask.objects.count()}"
            sent = uuid.UUID(bytes=id_of_tick(name, now))
            PeriodicTask.objects.create(name=name, task="report", every=HOUR, last_task=sent)
        with CaptureQueriesContext(connection) as found:
            admin.get(LIST)
        return len(found)

    queries(1)
    assert queries(2) == queries(30)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"enabled": False}, "disabled"),
        ({"removed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "removed from the code"),
        ({"changed": True}, "changed here"),
        ({"task": "gone"}, "cannot run"),
        ({"cron": "nonsense"}, "cannot run"),
        ({"since": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "late"),
    ],
)
def test_what_is_unusual_is_marked(admin: Client, declared: PeriodicTask, values: dict[str, Any], says: str) -> None:
    PeriodicTask.objects.update(**values)
    for address in (LIST, page(declared)):
        assert f"</span> {says}</span>" in admin.get(address).content.decode()


def test_hostile_text_is_shown_as_text(admin: Client, allowed: Allowed, broker: Broker) -> None:
    row = PeriodicTask.objects.create(name=HOSTILE, task=HOSTILE, cron=HOSTILE, timezone=HOSTILE, args=HOSTILE)
    viewer = allowed("view_periodictask", "view_arguments")
    for client, address in ((admin, LIST), (admin, page(row)), (viewer, page(row))):
        content = client.get(address).content.decode()
        assert HOSTILE not in content
        assert ESCAPED in content


def test_without_redis_the_rows_are_there(admin: Client, declared: PeriodicTask, redis_server: Any) -> None:
    redis_server.stop()
    assert admin.get(LIST).status_code == 200
    assert admin.get(page(declared)).status_code == 200


def test_the_overview_says_what_is_late_and_what_failed(
    admin: Client, scene: Scene, declared: PeriodicTask, now: dt.datetime
) -> None:
    scene.worker()
    id = id_of_tick("report", now)
    record(failed(id=id))
    PeriodicTask.objects.update(last_task=uuid.UUID(bytes=id))
    PeriodicTask.objects.create(name="late one", task="report", every=HOUR, since=now - 2 * HOUR)
    content = words(page_of(admin, OVERVIEW))
    assert "The periodic task late one is late: no worker sends it." in content
    assert "The last run of the periodic task report failed." in content


# --- who may do what --------------------------------------------------------------------------------------------------


def test_each_action_needs_its_permission(allowed: Allowed, declared: PeriodicTask, broker: Broker) -> None:
    viewer = allowed("view_periodictask")
    assert allowed().get(LIST).status_code == 403
    content = viewer.get(page(declared)).content.decode()
    assert "Run now" not in content
    assert "copies" not in content
    assert viewer.post(page(declared, "run")).status_code == 403
    assert viewer.post(page(declared, "follow")).status_code == 403
    assert viewer.post(page(declared), form(declared, cron="0 7 * * *")).status_code == 403
    assert allowed("run").post(page(declared, "run")).status_code == 403
    assert Shard(broker).lane() == []
    content = allowed("view_periodictask", "view_arguments").get(page(declared)).content.decode()
    assert "copies" in content
    assert "s3cret" not in content
    runner = allowed("view_periodictask", "run")
    assert "Run now" in runner.get(page(declared)).content.decode()
    assert runner.get(page(declared, "run")).status_code == 405
    assert runner.post(page(declared, "run")).status_code == 302
    assert len(Shard(broker).lane()) == 1


def test_run_now_sends_once_and_is_logged(
    admin: Client, declared: PeriodicTask, broker: Broker, heard: list[tuple[str, str]]
) -> None:
    content = admin.post(page(declared, "run"), follow=True).content.decode()
    [(_, fields)] = Shard(broker).lane()
    id = uuid.UUID(bytes=fields[b"i"])
    assert fields[b"k"] == b'{"copies":2,"options":{"token":"s3cret"}}'
    assert f"taskresult/{id}/change/" in content
    assert [entry.change_message for entry in LogEntry.objects.all()] == [f"Sent as {id}."]
    assert heard == [("run", "report")]
    declared.refresh_from_db()
    assert declared.last_tick is None


def test_selected_rows_are_enabled_disabled_and_run(
    admin: Client, declared: PeriodicTask, broker: Broker, heard: list[tuple[str, str]]
) -> None:
    for action in ("disable", "disable", "enable", "run"):
        admin.post(LIST, {"action": f"{action}_selected", "_selected_action": [declared.pk]})
    assert heard == [("disable", "report"), ("enable", "report"), ("run", "report")]
    since = declared.since
    declared.refresh_from_db()
    assert declared.enabled
    assert declared.since > since


def test_what_code_declares_cannot_be_deleted_before_it_is_removed(
    admin: Client, declared: PeriodicTask, broker: Broker, now: dt.datetime
) -> None:
    Ticks(broker).give_up(Tick("report", 1000))
    assert admin.post(page(declared, "delete"), {"post": "yes"}).status_code == 403
    press = {"action": "delete_selected", "_selected_action": [declared.pk], "post": "yes"}
    admin.post(LIST, press)
    assert PeriodicTask.objects.exists()
    PeriodicTask.objects.update(removed_at=now)
    assert admin.post(page(declared, "delete"), {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.exists()
    assert Ticks(broker).notes(["report"])[0].tick == 0


# --- what a form takes ------------------------------------------------------------------------------------------------


def test_a_change_is_marked_kept_and_taken_back(
    admin: Client, declared: PeriodicTask, now: dt.datetime, heard: list[tuple[str, str]]
) -> None:
    shown = admin.get(page(declared)).context["adminform"].form.initial
    values = form(declared, args=shown["args"], kwargs=shown["kwargs"])
    assert admin.post(page(declared), values).status_code == 302
    declared.refresh_from_db()
    assert (declared.changed, declared.since) == (False, now)
    assert '"s3cret"' in declared.kwargs
    assert admin.post(page(declared), values | {"cron": " 0  9 * * * "}).status_code == 302
    declared.refresh_from_db()
    assert (declared.cron, declared.changed) == ("0 9 * * *", True)
    assert declared.since > now
    assert '"s3cret"' in declared.kwargs
    assert "Back to what the code says" in admin.get(page(declared)).content.decode()
    admin.post(page(declared, "follow"))
    declared.refresh_from_db()
    assert (declared.cron, declared.changed) == ("30 6 * * *", False)
    assert heard == [("edit", "report"), ("edit", "report"), ("follow", "report")]


def test_editing_does_not_undo_what_a_scheduler_writes_meanwhile(
    admin: Client, declared: PeriodicTask, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = PeriodicForm.clean

    def clean(self: PeriodicForm) -> dict[str, Any]:
        PeriodicTask.objects.update(last_tick=now)
        return inner(self)

    monkeypatch.setattr(PeriodicForm, "clean", clean)
    shown = admin.get(page(declared)).context["adminform"].form.initial
    admin.post(page(declared), form(declared, cron="0 9 * * *", args=shown["args"], kwargs=shown["kwargs"]))
    declared.refresh_from_db()
    assert (declared.cron, declared.last_tick) == ("0 9 * * *", now)


def test_somebody_who_may_not_see_arguments_leaves_them_alone(allowed: Allowed, declared: PeriodicTask) -> None:
    editor = allowed("view_periodictask", "change_periodictask")
    values = form(declared, cron="0 9 * * *", kwargs='{"copies": 99}')
    assert editor.post(page(declared), values).status_code == 302
    declared.refresh_from_db()
    assert declared.cron == "0 9 * * *"
    assert '"copies":2' in declared.kwargs


def test_a_new_one_is_made(admin: Client, declared: PeriodicTask, now: dt.datetime, heard: list[Any]) -> None:
    values = form(name="mine", task="report", every="00:10:00", cron="", args='["x"]')
    assert admin.post(f"{LIST}add/", values).status_code == 302
    row = PeriodicTask.objects.get(name="mine")
    assert (row.every, row.args, row.declared, row.changed) == (dt.timedelta(minutes=10), '["x"]', "", False)
    assert row.since >= now
    assert heard == [("add", "mine")]
    assert admin.post(page(row), form(row, task="report", args='["y"]')).status_code == 302
    row.refresh_from_db()
    assert (row.args, row.task, row.changed) == ('["y"]', "report", False)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cron": "* * *"}, "is not a cron expression"),
        ({"cron": "* * * * *", "timezone": "Nowhere"}, "is not a time zone"),
        ({"cron": "* * * * *", "every": "60"}, "Give either cron or every."),
        ({"cron": ""}, "Give either cron or every."),
        ({"cron": "", "every": "0.5"}, "must be 1 second or more"),
        ({"jitter": "-1"}, "From 0 to 86400 seconds."),
        ({"args": "{}"}, "This must be a JSON array"),
        ({"args": "[1, 2]"}, "too many positional arguments"),
        ({"kwargs": '{"copies": "many"}'}, "copies"),
        ({"kwargs": "{"}, "Line 1, column"),
        ({"task": "gone"}, "Select a valid choice"),
        ({"name": "report"}, "already exists"),
        ({"name": "a\x07b"}, "Use printable characters."),
    ],
)
def test_what_makes_no_sense_is_refused(
    admin: Client, declared: PeriodicTask, values: dict[str, str], says: str
) -> None:
    given = {"name": "mine", "task": "report", "cron": "0 6 * * *", **values}
    response = admin.post(f"{LIST}add/", form(None, **given))
    assert response.status_code == 200
    assert says in response.content.decode()
    assert PeriodicTask.objects.count() == 1
