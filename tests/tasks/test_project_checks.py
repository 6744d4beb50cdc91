"""`manage.py check` looks around: extras, databases, workers, defaults."""

from __future__ import annotations

import datetime as dt
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections
from django.db.utils import ConnectionHandler
from django.test import override_settings

from django_taskq import project_checks, task
from django_taskq.broker import Broker
from django_taskq.broker.workers import Workers
from django_taskq.embedded import launcher
from django_taskq.project_checks import check_databases, check_surroundings
from tests.servers import RedisServer


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_a_good_project_passes(broker: Broker) -> None:
    assert check_surroundings() == []
    with override_settings(TASKQ={"QUEUE": {}}):  # E001 says so
        assert check_surroundings() == check_databases(databases=["default"]) == []


def test_embedded_without_a_server_program_is_e010(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise ImproperlyConfigured("no server program")

    monkeypatch.setattr(launcher, "find_server", none)
    with override_settings(TASKQ={"BROKER": "embedded://"}):
        (message,) = check_surroundings()
    assert message.id == "django_taskq.E010"
    assert "[embedded]" in str(message.hint)
    with override_settings(TASKQ={"BROKER": "embedded://", "MODE": "eager"}):
        assert check_surroundings() == []


def test_a_token_for_metrics_that_nobody_serves_is_w008(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    with override_settings(TASKQ={"METRICS_TOKEN": "s3cret"}):
        monkeypatch.setattr(project_checks, "find_spec", lambda name: name)
        assert check_surroundings() == []
        monkeypatch.setattr(project_checks, "find_spec", lambda name: None)
        (message,) = check_surroundings()
    assert message.id == "django_taskq.W008"
    assert "s3cret" not in str(message)


ONE, MARK = [1], object()


def plain(a: int = 1, b: str | None = None, *, c: list[int] = ONE, d: dt.date = dt.date(2026, 1, 1)) -> None:
    """Defaults that a call could pass."""


def odd(when=dt.date(2026, 1, 1), *, pair=(1, 2), mark: Any = MARK) -> None:  # type: ignore[no-untyped-def]
    """Defaults that no call could pass."""


def test_a_default_that_no_call_can_pass_is_w006(registered: Any) -> None:
    task(plain)
    assert check_surroundings() == []
    task(odd)
    found = check_surroundings()
    assert ids(found) == ["django_taskq.W006"] * 3
    assert "when is of type date and would arrive as str" in found[0].msg
    assert "pair is of type tuple and would arrive as list" in found[1].msg
    assert "mark (object) cannot be sent" in found[2].msg


def test_a_queue_that_no_running_worker_serves_is_w005(
    broker: Broker, redis_server: RedisServer, settings: Any
) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}, "post": {}}}
    settings.DEBUG = True
    assert check_surroundings() == []  # no worker at all: `runserver` says so, once something was sent
    workers = Workers(broker.connections, broker.keys)
    workers.register("a-1", {"queues": "default,post"})
    (message,) = check_surroundings()
    assert message.id == "django_taskq.W005"
    assert "'mail'" in message.msg
    assert "--queues mail" in str(message.hint)
    workers.register("a-2", {"queues": "mail"})
    assert check_surroundings() == []
    workers.declare_dead("a-2", None, [])
    assert ids(check_surroundings()) == ["django_taskq.W005"]
    redis_server.stop()
    assert check_surroundings() == []
    settings.DEBUG = False


@pytest.mark.django_db
def test_sqlite_without_a_write_ahead_log_is_w007(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "records.sqlite3")}
    plain = ConnectionHandler({"default": database})
    monkeypatch.setattr(project_checks, "connections", plain)
    (message,) = check_databases(databases=["default"])
    assert message.id == "django_taskq.W007"
    assert "journal_mode delete" in message.msg
    assert check_databases(databases=["other"]) == check_databases() == []
    plain["default"].close()
    logged = ConnectionHandler({"default": {**database, "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"}}})
    monkeypatch.setattr(project_checks, "connections", logged)
    assert check_databases(databases=["default"]) == []
    logged["default"].close()


@pytest.mark.django_db
def test_the_checks_are_registered(broker: Broker) -> None:
    assert connections["default"].vendor
    call_command("check", "--database", "default", stdout=StringIO(), stderr=StringIO())
    with override_settings(TASKQ={"METRICS_TOKEN": "x"}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(project_checks, "find_spec", lambda name: None)
        err = StringIO()
        call_command("check", stdout=StringIO(), stderr=err)
    assert "W008" in err.getvalue()
