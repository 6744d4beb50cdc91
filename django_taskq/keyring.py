"""The keys of TASKQ["ENCRYPTION_KEYS"], read when the first value is sealed or opened."""

from __future__ import annotations

from importlib.util import find_spec

from django.core.signals import setting_changed

from django_taskq.conf import Settings, get_settings, reveal
from django_taskq.core.sealing import Keyring, parse_key
from django_taskq.exceptions import InvalidTask, KeyMissing

EXTRA = "pip install 'django-taskq-redis[encryption]'"


def get_keyring() -> Keyring:
    """This process' keys; KeyMissing, which says why, where they cannot be read."""
    global _keyring
    if _keyring is None:
        _keyring = _read(get_settings())
    return _keyring


_keyring: Keyring | None = None


def require_encryption(where: str, settings: Settings) -> None:
    """InvalidTask unless a task with encrypt=True could be sealed, as far as that is known without reading keys."""
    if not settings.encryption_keys:
        raise InvalidTask(
            f"{where}: encrypt=True needs keys in TASKQ['ENCRYPTION_KEYS']. `manage.py taskq_encryption new` makes one."
        )
    if not is_installed() and any(secret is not None for secret in settings.encryption_keys.values()):
        raise InvalidTask(f"{where}: encrypt=True needs the package cryptography: {EXTRA}.")


def is_installed() -> bool:
    """Whether the extra `encryption` is there."""
    return find_spec("cryptography") is not None


def _read(settings: Settings) -> Keyring:
    """Raises where no key is among the variables: whatever reports errors may report those."""
    keys = _keys(settings)
    if isinstance(keys, KeyMissing):
        raise keys
    try:
        return Keyring(keys)
    except ImportError:
        first = next(iter(keys), "")
        del keys
        raise KeyMissing(f"Sealed values need the package cryptography: {EXTRA}.", key_id=first) from None


def _keys(settings: Settings) -> dict[str, bytes | None] | KeyMissing:
    keys: dict[str, bytes | None] = {}
    for key_id, secret in settings.encryption_keys.items():
        try:
            text = reveal(secret)
            keys[key_id] = None if text is None else parse_key(text)
        except Exception as error:  # noqa: BLE001 - a callable may raise anything, and its text may hold anything
            why = str(error) if isinstance(error, ValueError | OSError) and not callable(secret) else repr(type(error))
            return KeyMissing(
                f"TASKQ['ENCRYPTION_KEYS'][{key_id!r}] cannot be used: {why}. It must be the base64 of 32 bytes, "
                '"file:/path" to a file that holds it, or a callable that returns it.',
                key_id=key_id,
            )
    return keys


def _forget(setting: str, **_: object) -> None:
    global _keyring
    if setting == "TASKQ":
        _keyring = None


setting_changed.connect(_forget, dispatch_uid="django_taskq.keyring")
