"""Keys and options that make no sense are named before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_taskq import InvalidTask, KeyMissing, Task, keyring
from django_taskq.checks import check_settings
from django_taskq.conf import read_settings
from django_taskq.testing import assert_enqueued, clear_enqueued, run_enqueued
from tests.encryption.conftest import K1, with_keys
from tests.encryption.tasks import charge, plain

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


def ids() -> list[str | None]:
    return [message.id for message in check_settings()]


def test_encrypt_needs_keys_and_the_package(keys: SettingsWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(keys, {})
    with pytest.raises(InvalidTask, match=r"charge: encrypt=True needs keys in TASKQ\['ENCRYPTION_KEYS'\]"):
        charge.verify()
    with_keys(keys, {"k1": K1})
    charge.verify()
    monkeypatch.setattr(keyring, "is_installed", lambda: False)
    charge.forget_settings()
    with pytest.raises(InvalidTask, match=r"django-taskq-redis\[encryption\]"):
        charge.verify()
    with_keys(keys, {"k1": None})  # a machine that only shows that something is sealed needs neither
    charge.verify()


def test_all_tasks_encrypt_by_setting(keys: SettingsWrapper) -> None:
    def sign(text: str) -> str:
        return text

    sign.__qualname__ = "sign"
    with_keys(keys, {"k1": K1}, ENCRYPT=True)
    assert Task(sign).encrypt
    assert plain.encrypt
    assert not Task(sign, encrypt=False).encrypt


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("k1", "must be a dict"),
        ({"a b": K1}, "names a key str 'a b'"),
        ({"k1": b"x"}, r"\['k1'\] must be a string"),
        ({1: K1}, "names a key int 1"),
    ],
)
def test_wrong_keys_are_named_and_not_shown(value: Any, what: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=what) as raised:
        read_settings({"ENCRYPTION_KEYS": value})
    assert K1 not in str(raised.value)


def fails() -> str:
    raise RuntimeError("the token is 12345")


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("c2hvcnQ=", "5 bytes"),
        ("not base64!", "base64"),
        ("file:/nowhere/key", "No such file"),
        (fails, "RuntimeError"),
    ],
)
def test_keys_that_cannot_be_read_are_found_by_the_check(keys: SettingsWrapper, secret: Any, why: str) -> None:
    with_keys(keys, {"k1": secret})
    assert ids() == ["django_taskq.E009"]
    with pytest.raises(KeyMissing, match=why) as raised:
        charge.delay("4111")
    assert not isinstance(secret, str) or secret.startswith("file:") or secret not in str(raised.value)
    assert "12345" not in str(raised.value)


def test_keys_come_from_files_and_callables(keys: SettingsWrapper, tmp_path: Any) -> None:
    (tmp_path / "key").write_text(f"{K1}\n")
    for secret in (f"file:{tmp_path}/key", lambda: K1):
        with_keys(keys, {"k1": secret})
        assert ids() == []
        assert keyring.get_keyring().first == "k1"


def test_a_machine_without_the_key_cannot_send(keys: SettingsWrapper) -> None:
    with_keys(keys, {"k1": None})
    with pytest.raises(KeyMissing, match="'k1'"):
        charge.delay("4111")


def test_in_tests_of_projects_calls_are_sealed_and_seen(keys: SettingsWrapper) -> None:
    with_keys(keys, {"k1": K1}, MODE="collect")
    clear_enqueued()
    handle = charge.delay("4111")
    assert_enqueued(charge, args=("4111",))
    run_enqueued()
    assert handle.get() == ["4111", "None"]
