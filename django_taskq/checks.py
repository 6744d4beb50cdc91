"""System checks: what `manage.py check` can tell before the first task is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, router

from django_taskq.broker import get_broker
from django_taskq.broker.health import problems_of
from django_taskq.conf import Settings, get_settings
from django_taskq.exceptions import InvalidTask, KeyMissing, TaskqError
from django_taskq.keyring import get_keyring
from django_taskq.middleware.base import is_capable, load_middleware
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.options import DEFAULTABLE, parse, refuse_contradictions
from django_taskq.redis_databases import broker_databases, cache_databases
from django_taskq.registry import all_tasks
from django_taskq.task import Task

CONTEXT_VARS = "django_taskq.middleware.context_vars.context_vars"

# Backends whose clear() is FLUSHDB.
_FLUSHING = ("django_redis.cache.RedisCache", "django.core.cache.backends.redis.RedisCache")


@register(Tags.compatibility)
def check_settings(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """TASKQ itself, and what it refers to elsewhere in the settings."""
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="docs/configuration.md lists the keys of TASKQ.", id="django_taskq.E001")]
    return [
        *_check_middleware(),
        *_check_context_vars(settings),
        *_check_database(settings),
        *_check_outbox(settings),
        *_check_alias(settings),
        *_check_caches(settings),
        *_check_task_defaults(settings),
        *_check_encryption(settings),
    ]


@register(Tags.compatibility)
def check_tasks(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Type hints that mean nothing at run time and options that contradict the settings, before a call finds them."""
    messages: list[CheckMessage] = []
    for task in all_tasks():
        try:
            task.verify()
        except InvalidTask as error:
            messages.append(Error(str(error), obj=task.module_path, id="django_taskq.E007"))
        except ImproperlyConfigured:
            return []  # E001 says so
    return messages


@register(Tags.compatibility, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """What is fine on a developer's machine only."""
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []
    if settings.is_local:
        return [
            Warning(
                f"TASKQ['MODE'] is {settings.mode!r}, which is for tests: no worker ever sees a task.",
                hint="Leave MODE out, or set it to 'broker'.",
                id="django_taskq.W004",
            )
        ]
    if not settings.broker.startswith("embedded:"):
        return _check_server()
    return [
        Warning(
            "TASKQ['BROKER'] is the embedded server, which is for development and tests: it serves one machine and "
            "ends when its last client has gone.",
            hint="Run a Redis or Valkey server and set TASKQ['BROKER'] to its URL.",
            id="django_taskq.W001",
        )
    ]


def _check_server() -> list[CheckMessage]:
    """How the Redis in use is configured; nothing where it cannot be reached, which the worker says itself."""
    try:
        problems = problems_of(get_broker().connections)
    except (TaskqError, ImproperlyConfigured) as error:
        return [Warning(f"Redis was not checked: {error}", id="django_taskq.W100")]
    return [Warning(problem.text, hint=problem.hint, id=f"django_taskq.{problem.id}") for problem in problems]


def _check_middleware() -> Iterator[CheckMessage]:
    try:
        loaded = load_middleware()
    except ImproperlyConfigured as error:
        yield Error(str(error), id="django_taskq.E002")
        return
    for is_async in (False, True):
        concerned = [task.name for task in all_tasks() if task.is_async is is_async]
        for path, factory in loaded:
            if concerned and not is_capable(factory, is_async=is_async):
                kind = "coroutine functions" if is_async else "functions"
                yield Error(
                    f"TASKQ['MIDDLEWARE']: {path} does not take {kind}, and these tasks are: {', '.join(concerned)}.",
                    hint="Write it with django_taskq.middleware.around, or mark it with "
                    "django.utils.decorators.sync_and_async_middleware.",
                    id="django_taskq.E002",
                )


def _check_context_vars(settings: Settings) -> Iterator[CheckMessage]:
    if not settings.context_vars:
        return
    if CONTEXT_VARS not in settings.middleware:
        yield Error(
            "TASKQ['CONTEXT_VARS'] names variables, and the middleware that sends them along is missing.",
            hint=f"Add {CONTEXT_VARS!r} to TASKQ['MIDDLEWARE'].",
            id="django_taskq.E002",
        )
    from django_taskq.middleware.context_vars import variables

    try:
        variables()
    except ImproperlyConfigured as error:
        yield Error(str(error), id="django_taskq.E002")


def _check_database(settings: Settings) -> Iterator[CheckMessage]:
    if settings.database not in django_settings.DATABASES:
        yield Error(
            f"TASKQ['DATABASE'] is {settings.database!r}, which is not in DATABASES.",
            hint=f"Use one of {', '.join(map(repr, django_settings.DATABASES))}.",
            id="django_taskq.E003",
        )
    elif settings.database != DEFAULT_DB_ALIAS and router.db_for_write(TaskResult) != settings.database:
        yield Warning(
            f"TASKQ['DATABASE'] is {settings.database!r}, but no router sends the records there.",
            hint='Add "django_taskq.router.TaskqRouter" to DATABASE_ROUTERS.',
            id="django_taskq.W002",
        )


def _check_outbox(settings: Settings) -> Iterator[CheckMessage]:
    for alias in settings.outbox_databases:
        if alias not in django_settings.DATABASES:
            yield Error(
                f"TASKQ['OUTBOX_DATABASES'] names {alias!r}, which is not in DATABASES.",
                hint=f"Use some of {', '.join(map(repr, django_settings.DATABASES))}.",
                id="django_taskq.E003",
            )
        elif settings.outbox and not router.allow_migrate_model(alias, OutboxEntry):
            yield Warning(
                f"TASKQ['OUTBOX_DATABASES'] names {alias!r}, but a router forbids the outbox' table there.",
                hint='Add "django_taskq.router.TaskqRouter" to DATABASE_ROUTERS, before routers that claim every app.',
                id="django_taskq.W003",
            )


def _check_alias(settings: Settings) -> Iterator[CheckMessage]:
    if "://" in settings.broker:
        return
    cache = django_settings.CACHES.get(settings.broker)
    if cache is None or "django_redis" not in str(cache.get("BACKEND")):
        yield Error(
            f"TASKQ['BROKER'] is {settings.broker!r}: neither a URL nor a CACHES entry of django-redis.",
            hint="Use redis://host:port/db, rediss://, unix:// or embedded://, or the alias of a cache that nothing "
            "else uses, with the backend django_redis.cache.RedisCache.",
            id="django_taskq.E004",
        )


def _check_caches(settings: Settings) -> Iterator[CheckMessage]:
    """A cache in the broker's database: clearing it deletes every task."""
    broker = broker_databases(settings)
    for alias, cache in django_settings.CACHES.items():
        if alias != settings.broker and cache.get("BACKEND") in _FLUSHING and broker & cache_databases(cache):
            yield Error(
                f"CACHES[{alias!r}] is in the same Redis database as TASKQ['BROKER']: its clear() is FLUSHDB and would "
                "delete every task.",
                hint="Give one of them another database number, or better a server of its own: a cache wants an "
                "eviction policy, a broker must not have one.",
                id="django_taskq.E005",
            )


def _check_task_defaults(settings: Settings) -> Iterator[CheckMessage]:
    try:
        where = "TASKQ['TASK_DEFAULTS']"
        refuse_contradictions(where, parse(where, settings.task_defaults, allowed=DEFAULTABLE))
    except InvalidTask as error:
        yield Error(str(error), id="django_taskq.E006")


def _check_encryption(settings: Settings) -> Iterator[CheckMessage]:
    """Keys that cannot be read. Nothing is read where no task needs them."""
    if not settings.encryption_keys or not any(_encrypts(task) for task in all_tasks()):
        return
    try:
        get_keyring()
    except KeyMissing as error:
        yield Error(str(error), id="django_taskq.E009")


def _encrypts(task: Task[..., Any]) -> bool:
    try:
        return task.encrypt
    except InvalidTask:
        return False  # E007 says why
