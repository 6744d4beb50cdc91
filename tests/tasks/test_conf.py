"""TASKQ: defaults, and a clear error for whatever makes no sense."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_taskq.conf import Settings, get_settings, read_settings
from django_taskq.queue_options import QueueOptions


def test_every_key_has_a_default() -> None:
    assert read_settings({}) == Settings()
    assert Settings().broker == "redis://127.0.0.1:6379/0"
    assert Settings().queues == {"default": QueueOptions()}
    assert (Settings().retention, Settings().retention_failed) == (timedelta(days=7), timedelta(days=90))
    assert (Settings().outcome_window, Settings().max_payload_bytes) == (60.0, 1024 * 1024)


VALUES: list[tuple[str, Any, dict[str, Any]]] = [
    ("BROKER", "rediss://user:secret@host:6380/3", {"broker": "rediss://user:secret@host:6380/3"}),
    ("BROKER", "queue-cache", {"broker": "queue-cache"}),
    ("BROKER", "embedded://", {"broker": "embedded://"}),
    ("BROKER_PASSWORD", "file:/run/secret", {"broker_password": "file:/run/secret"}),
    ("BROKER_USER", print, {"broker_user": print}),
    ("BROKER_DB", 3, {"broker_db": 3}),
    ("BROKER_OPTIONS", {"ssl_ca_certs": "x"}, {"broker_options": {"ssl_ca_certs": "x"}}),
    ("NAMESPACE", "shop-1.a_b", {"namespace": "shop-1.a_b"}),
    ("QUEUES", {"a": {}, "b.c-d_1": {}}, {"queues": {"a": QueueOptions(), "b.c-d_1": QueueOptions()}}),
    (
        "QUEUES",
        {"a": {"max_length": 10, "enqueue_timeout": timedelta(milliseconds=1500)}, "b": {"max_length": None}},
        {"queues": {"a": QueueOptions(max_length=10, enqueue_timeout=1.5), "b": QueueOptions()}},
    ),
    (
        "QUEUES",
        {"a": {"max_length": 1, "overflow": "drop_oldest"}},
        {"queues": {"a": QueueOptions(max_length=1, overflow="drop_oldest")}},
    ),
    ("TASK_DEFAULTS", {"max_retries": 5}, {"task_defaults": {"max_retries": 5}}),
    ("RECORD", "failures", {"record": "failures"}),
    ("RETENTION", 3600, {"retention": timedelta(hours=1), "retention_failed": timedelta(hours=1)}),
    ("RETENTION", timedelta(days=1), {"retention": timedelta(days=1), "retention_failed": timedelta(days=1)}),
    ("RETENTION", {"failed": timedelta(1)}, {"retention": timedelta(days=7), "retention_failed": timedelta(1)}),
    ("RETENTION", {"default": 60}, {"retention": timedelta(minutes=1), "retention_failed": timedelta(days=90)}),
    ("RETENTION_MAX_ROWS", 0, {"retention_max_rows": 0}),
    ("OUTCOME_WINDOW", timedelta(minutes=2), {"outcome_window": 120.0}),
    ("OUTCOME_WINDOW", 15.5, {"outcome_window": 15.5}),
    ("MAX_OUTCOMES", 10, {"max_outcomes": 10}),
    ("MAX_OUTCOMES", None, {"max_outcomes": None}),
    ("MAX_PAYLOAD_BYTES", 10, {"max_payload_bytes": 10}),
    ("MIDDLEWARE", ["a.b", "c.d"], {"middleware": ("a.b", "c.d")}),
    ("DATABASE", "records", {"database": "records"}),
]


@pytest.mark.parametrize(("key", "value", "fields"), VALUES)
def test_a_key_sets_its_field(key: str, value: Any, fields: dict[str, Any]) -> None:
    settings = read_settings({key: value})
    assert {name: getattr(settings, name) for name in fields} == fields


WRONG: list[tuple[str, list[Any]]] = [
    ("BROKER", ["", None, 7, "http://host", "amqp://", "sentinel://host"]),
    ("BROKER_PASSWORD", [7, b"x"]),
    ("BROKER_DB", ["0", -1, True, 1.0]),
    ("BROKER_OPTIONS", [None, [], {1: 2}]),
    ("NAMESPACE", ["", "a b", "{x}", "a:b", None, "x" * 101]),
    (
        "QUEUES",
        [{}, [], ["default"], None, {"": {}}, {"a b": {}}, {"a:b": {}}, {1: {}}, {"a": None}, {"a": {"rate": 1}}],
    ),
    ("TASK_DEFAULTS", [None, []]),
    ("RECORD", ["none", None, True]),
    (
        "RETENTION",
        [-1, "7", None, True, float("nan"), float("inf"), timedelta(days=-1), {"successes": 1}, {"failed": "x"}],
    ),
    ("RETENTION_MAX_ROWS", [-1, "many", None]),
    ("OUTCOME_WINDOW", [-1, 14.9, None, "60"]),
    ("MAX_OUTCOMES", [0, "1"]),
    ("MAX_PAYLOAD_BYTES", [0, None, 1.5]),
    ("MIDDLEWARE", ["a.b", None, [7], ["nodots"]]),
    ("DATABASE", ["", None]),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG for value in values])
def test_a_value_that_makes_no_sense_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"TASKQ[{key!r}]")):
        read_settings({key: value})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_lenght": 1}, "'mail' the unknown option 'max_lenght'. Did you mean 'max_length'?"),
        ({"max_length": 0}, "'mail' max_length, which must be a whole number, 1 or more, not int 0."),
        ({"max_length": True}, "max_length, which must be a whole number"),
        ({"max_length": 1, "overflow": "drop"}, "overflow, which must be 'refuse' or 'drop_oldest'"),
        ({"max_length": 1, "enqueue_timeout": -1}, "enqueue_timeout, which must be between 0 and"),
        ({"enqueue_timeout": 1}, "enqueue_timeout, which means nothing without max_length."),
        ({"overflow": "refuse"}, "overflow, which means nothing without max_length."),
        ({"max_length": 1, "overflow": "drop_oldest", "enqueue_timeout": 1}, "enqueue_timeout has nothing to wait for"),
    ],
)
def test_an_option_of_a_queue_is_refused_with_what_it_takes(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)):
        read_settings({"QUEUES": {"mail": options}})


def test_an_unknown_key_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no key 'QUEUE'. Did you mean 'QUEUES'\?"):
        read_settings({"QUEUE": {}})
    with pytest.raises(ImproperlyConfigured, match=r"no key 'namespace'. Did you mean 'NAMESPACE'\?"):
        read_settings({"namespace": "x"})
    with pytest.raises(ImproperlyConfigured, match=r"no key 'XYZZY'. Known: BROKER, "):
        read_settings({"XYZZY": 1})


@pytest.mark.parametrize("raw", [None, [], "redis://", 7])
def test_taskq_must_be_a_dict(raw: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="TASKQ must be a dict"):
        read_settings(raw)


def test_secrets_show_neither_in_errors_nor_in_the_repr() -> None:
    settings = read_settings(
        {"BROKER": "redis://:hunter2@host", "BROKER_PASSWORD": "hunter2", "BROKER_USER": "hunter2"}
    )
    assert "hunter2" not in repr(settings)
    for wrong in ({"BROKER": "http://:hunter2@host"}, {"BROKER_PASSWORD": [b"hunter2"]}):
        with pytest.raises(ImproperlyConfigured) as caught:
            read_settings(wrong)
        assert "hunter2" not in str(caught.value)


def test_settings_are_read_once_and_again_when_they_change() -> None:
    assert get_settings() is get_settings()
    with override_settings(TASKQ={"NAMESPACE": "other"}):
        assert get_settings().namespace == "other"
    assert get_settings().namespace != "other"


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_settings().namespace = "x"  # type: ignore[misc]
