"""`manage.py check`: what is wrong is named before the first task is sent."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.test import override_settings

from django_taskq import task
from django_taskq.checks import check_deployment, check_settings, check_tasks
from tests.tasks import sample

REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"


def problems(**settings: Any) -> list[CheckMessage]:
    with override_settings(**settings):
        return check_settings()


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_good_settings_pass() -> None:
    assert problems(TASKQ={}) == []
    assert problems(TASKQ={"BROKER": "embedded://", "QUEUES": {"mail": {}}, "TASK_DEFAULTS": {"max_retries": 1}}) == []


def test_the_checks_are_registered(db: None) -> None:
    with (
        override_settings(TASKQ={"BROKR": "redis://"}),
        pytest.raises(SystemCheckError, match=r"taskq\.E001.*'BROKER'"),
    ):
        call_command("check", stdout=StringIO(), stderr=StringIO())


@pytest.mark.parametrize(
    "taskq", [{"QUEUE": {}}, {"RECORD": "some"}, {"QUEUES": {"a b": {}}}, [], {"BROKER": "ftp://x"}]
)
def test_settings_that_make_no_sense_are_e001(taskq: Any) -> None:
    (message,) = problems(TASKQ=taskq)
    assert message.id == "django_taskq.E001"
    assert "TASKQ" in message.msg
    assert message.hint
    with override_settings(TASKQ=taskq):
        assert check_tasks() == []
        assert check_deployment() == []


def test_middleware_that_cannot_be_imported_is_e002() -> None:
    (message,) = problems(TASKQ={"MIDDLEWARE": ["tests.tasks.middleware.missing"]})
    assert message.id == "django_taskq.E002"
    assert "tests.tasks.middleware.missing" in message.msg


def test_middleware_that_does_not_fit_the_tasks_there_are_is_e002() -> None:
    (message,) = problems(TASKQ={"MIDDLEWARE": ["tests.tasks.middleware.plain", "tests.tasks.middleware.outer"]})
    assert message.id == "django_taskq.E002"
    assert "middleware.plain does not take coroutine functions" in message.msg
    assert "tests.tasks.sample.multiply" in message.msg
    assert "around" in str(message.hint)


def test_a_database_that_is_not_there_is_e003() -> None:
    (message,) = problems(TASKQ={"DATABASE": "records"})
    assert message.id == "django_taskq.E003"
    assert "'default'" in str(message.hint)


def test_a_database_that_no_router_sends_the_records_to_is_w002(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(django_settings.DATABASES, "records", django_settings.DATABASES["default"])
    assert ids(problems(TASKQ={"DATABASE": "records"})) == ["django_taskq.W002"]
    assert problems(TASKQ={"DATABASE": "records"}, DATABASE_ROUTERS=["django_taskq.router.TaskqRouter"]) == []


class NoOutbox:
    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return False if model_name == "outboxentry" else None


def test_databases_of_the_outbox_must_exist_and_have_its_table() -> None:
    [message] = problems(TASKQ={"OUTBOX_DATABASES": ["default", "nowhere"]})
    assert message.id == "django_taskq.E003"
    assert "'nowhere'" in message.msg
    assert problems(DATABASE_ROUTERS=[NoOutbox()]) == []
    assert ids(problems(TASKQ={"OUTBOX": True}, DATABASE_ROUTERS=[NoOutbox()])) == ["django_taskq.W003"]
    assert problems(TASKQ={"OUTBOX": True}) == []


def test_an_alias_that_is_no_django_redis_cache_is_e004() -> None:
    assert ids(problems(TASKQ={"BROKER": "default"})) == ["django_taskq.E004"]
    caches = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, "queue": {"BACKEND": REDIS_CACHE}}
    assert ids(problems(TASKQ={"BROKER": "queue"}, CACHES=caches)) == ["django_taskq.E004"]
    caches["queue"] = {"BACKEND": DJANGO_REDIS, "LOCATION": "redis://localhost"}
    assert problems(TASKQ={"BROKER": "queue"}, CACHES=caches) == []


def with_cache(broker: dict[str, Any], location: Any, **cache: Any) -> list[CheckMessage]:
    default = {"BACKEND": REDIS_CACHE, "LOCATION": location, **cache}
    return problems(TASKQ=broker, CACHES={"default": default})


@pytest.mark.parametrize(
    ("broker", "location"),
    [
        ({}, "redis://127.0.0.1:6379"),
        ({}, "redis://localhost:6379/0"),
        ({"BROKER": "redis://host"}, "redis://:secret@host:6379/0"),
        ({"BROKER": "redis://host:7000/3"}, ["redis://other:7000/3", "rediss://host:7000?db=3"]),
        ({"BROKER": "redis://host/1", "BROKER_DB": 3}, "redis://other,redis://host/3"),
        ({"BROKER": "unix:///run/redis.sock?db=2"}, "unix:///run/redis.sock?db=2"),
    ],
)
def test_a_cache_in_the_brokers_database_is_e005(broker: dict[str, Any], location: Any) -> None:
    for backend in (REDIS_CACHE, DJANGO_REDIS):
        (message,) = with_cache(broker, location, BACKEND=backend)
        assert message.id == "django_taskq.E005"
        assert "CACHES['default']" in message.msg
        assert "FLUSHDB" in message.msg
        assert "secret" not in message.msg


@pytest.mark.parametrize(
    ("broker", "location", "cache"),
    [
        ({}, "redis://127.0.0.1:6379/1", {}),
        ({}, "redis://127.0.0.1:6380/0", {}),
        ({}, "redis://127.0.0.1:6379/0", {"OPTIONS": {"db": 1}}),
        ({"BROKER": "redis://host"}, "redis://other", {}),
        ({"BROKER": "unix:///run/redis.sock"}, "unix:///run/other.sock", {}),
        ({"BROKER": "embedded://"}, "redis://127.0.0.1:6379", {}),
        ({}, "redis://127.0.0.1:6379", {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}),
        ({}, "", {}),
    ],
)
def test_a_cache_elsewhere_is_fine(broker: dict[str, Any], location: Any, cache: dict[str, Any]) -> None:
    assert with_cache(broker, location, **cache) == []


def test_a_cache_beside_the_brokers_alias_is_e005() -> None:
    caches = {
        "default": {"BACKEND": DJANGO_REDIS, "LOCATION": "redis://localhost/2"},
        "queue": {"BACKEND": DJANGO_REDIS, "LOCATION": "redis://127.0.0.1/2"},
    }
    assert ids(problems(TASKQ={"BROKER": "queue"}, CACHES=caches)) == ["django_taskq.E005"]


@pytest.mark.parametrize("defaults", [{"max_retry": 1}, {"timeout": -1}, {"timeout": 9, "hard_timeout": 3}])
def test_task_defaults_that_make_no_sense_are_e006(defaults: dict[str, Any]) -> None:
    (message,) = problems(TASKQ={"TASK_DEFAULTS": defaults})
    assert message.id == "django_taskq.E006"
    assert "TASK_DEFAULTS" in message.msg


def test_several_problems_are_all_told() -> None:
    taskq = {"DATABASE": "x", "TASK_DEFAULTS": {"x": 1}, "MIDDLEWARE": ["a.b"]}
    assert ids(problems(TASKQ=taskq)) == ["django_taskq.E002", "django_taskq.E003", "django_taskq.E006"]


@pytest.mark.usefixtures("registered")
def test_tasks_that_cannot_be_used_are_e007() -> None:
    assert check_tasks() == []
    task(sample.unresolvable)
    with override_settings(TASKQ={"QUEUES": {"mail": {}, "default": {}}}):
        task(name="to.mail", queue_name="mail")(sample.function)
    messages = check_tasks()
    assert ids(messages) == ["django_taskq.E007"] * 2
    assert "parameter 'a' cannot be resolved" in messages[0].msg
    assert "queue 'mail' is not declared" in messages[1].msg
    assert messages[0].obj == "tests.tasks.sample.unresolvable"


def test_the_embedded_server_is_a_warning_on_deployment_only() -> None:
    with override_settings(TASKQ={"BROKER": "embedded://"}):
        assert ids(check_deployment()) == ["django_taskq.W001"]
        assert check_settings() == []
    with override_settings(TASKQ={"BROKER": "redis://127.0.0.1:1"}):
        assert "django_taskq.W001" not in ids(check_deployment())


@pytest.mark.parametrize("mode", ["eager", "collect"])
def test_a_mode_for_tests_in_production_is_w004(mode: str) -> None:
    with override_settings(TASKQ={"MODE": mode}):
        (message,) = check_deployment()
    assert message.id == "django_taskq.W004"
    assert problems(TASKQ={"MODE": "lazy"})[0].id == "django_taskq.E001"


def test_a_worker_refuses_a_mode_for_tests() -> None:
    with override_settings(TASKQ={"MODE": "eager"}), pytest.raises(CommandError, match="'eager'"):
        call_command("taskq_worker", "--burst")
