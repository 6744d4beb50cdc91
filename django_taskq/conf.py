"""The settings: one dict, TASKQ, read once into a frozen dataclass. docs/configuration.md explains each key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_taskq.log_bounds import LogBounds, parse_log_bounds
from django_taskq.queue_options import QueueOptions, parse_queue
from django_taskq.values import close_match, shown, span, whole

# A secret is given as it is, as "file:/path", or by a callable that is asked at each new connection.
Secret = str | Callable[[], str] | None

RECORD_CHOICES = ("all", "failures")
MODES = ("broker", "eager", "collect")  # see testing/
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
SHORTEST_WINDOW = 15.0  # seconds; longer than a producer repeats itself


@dataclass(frozen=True, slots=True)
class Settings:
    """TASKQ with its defaults filled in. Field names are the keys in lower case."""

    broker: str = field(default="redis://127.0.0.1:6379/0", repr=False)  # may hold a password
    broker_user: Secret = field(default=None, repr=False)
    broker_password: Secret = field(default=None, repr=False)
    broker_db: int | None = None
    broker_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    namespace: str = "taskq"
    queues: Mapping[str, QueueOptions] = field(default_factory=lambda: {"default": QueueOptions()})
    task_defaults: Mapping[str, Any] = field(default_factory=dict)
    record: str = "all"
    retention: timedelta = timedelta(days=7)
    retention_failed: timedelta = timedelta(days=90)
    retention_max_rows: int = 1_000_000
    outcome_window: float = 60.0  # seconds
    max_outcomes: int | None = None  # None: 1,000,000, or what 25 % of maxmemory holds
    max_payload_bytes: int = 1024 * 1024
    middleware: tuple[str, ...] = ()
    database: str = "default"
    capture_logs: LogBounds | None = None
    outbox: bool = False
    outbox_databases: tuple[str, ...] = ("default",)
    metrics_token: Secret = field(default=None, repr=False)
    context_vars: tuple[str, ...] = ()
    mode: str = "broker"
    eager_propagates: bool = False
    encrypt: bool = False
    encryption_keys: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    encryption_accept_plain: bool = False

    @property
    def is_local(self) -> bool:
        """Whether tasks stay in this process, as in tests."""
        return self.mode != "broker"


def get_settings() -> Settings:
    """The settings in force, read once; raises ImproperlyConfigured for a key or value that makes no sense."""
    global _current
    if _current is None:
        _current = read_settings(getattr(django_settings, "TASKQ", {}))
    return _current


_current: Settings | None = None


def _forget(setting: str, **_: object) -> None:
    global _current
    if setting == "TASKQ":
        _current = None


setting_changed.connect(_forget, dispatch_uid="django_taskq.conf")


def read_settings(raw: Any) -> Settings:
    """Settings from the TASKQ dict; raises ImproperlyConfigured, naming the key and what it takes."""
    if not isinstance(raw, Mapping):
        raise ImproperlyConfigured(f"TASKQ must be a dict of settings, not {shown(raw)}.")
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in _PARSERS:
            raise ImproperlyConfigured(f"TASKQ has no key {key!r}.{close_match(key, _PARSERS)}")
        try:
            fields |= _PARSERS[key](key.lower(), value)
        except ValueError as error:
            raise ImproperlyConfigured(f"TASKQ[{key!r}] {error}") from error
    return Settings(**fields)


def max_length_of(queue: str) -> int | None:
    """How many tasks may wait in a queue; None for any number."""
    options = get_settings().queues.get(queue)
    return None if options is None else options.max_length


def reveal(secret: Secret) -> str | None:
    """The secret itself. Raises OSError for a file that cannot be read, and whatever a callable raises."""
    if callable(secret):
        return secret()
    if secret and secret.startswith("file:"):
        return Path(secret.removeprefix("file:")).read_text().strip()
    return secret


def is_queue_name(name: object) -> bool:
    """Whether a queue may be called that: 1 to 100 letters, digits, `_`, `.` and `-`."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


# --- parsers: (field name, value) -> fields; a ValueError says what is wrong ------------------------------------------

Parser = Callable[[str, Any], dict[str, Any]]


def _text(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a non-empty string, not {shown(value)}.")
    return {name: value}


def _broker(name: str, value: Any) -> dict[str, Any]:
    scheme, separator, _rest = _text(name, value)[name].partition("://")
    if separator and scheme not in ("redis", "rediss", "unix", "embedded"):
        # Not the address itself: it may hold a password.
        raise ValueError(
            f"has the unknown scheme {scheme!r}. Use redis://, rediss://, unix:// or embedded://, "
            "or the name of a django-redis entry in CACHES."
        )
    return {name: value}


def _secret(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, str) and not callable(value):
        # Not the value itself: it may be the secret.
        raise ValueError(f'must be a string, "file:/path" or a callable, not {type(value).__name__}.')
    return {name: value}


def _encryption_keys(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):  # and not the value itself
        raise ValueError(f"must be a dict of key ids and keys, not {type(value).__name__}.")
    for key_id, secret in value.items():
        if not isinstance(key_id, str) or _KEY_ID.fullmatch(key_id) is None:
            raise ValueError(f"names a key {shown(key_id)}: use 1 to 32 letters, digits, '_', '.' or '-'.")
        try:
            _secret(name, secret)
        except ValueError as error:
            raise ValueError(f"[{key_id!r}] {error}") from error
    return {name: dict(value)}


def _whole(minimum: int, *, optional: bool = False) -> Parser:
    def parse(name: str, value: Any) -> dict[str, Any]:
        if value is None and optional:
            return {name: None}
        return {name: whole(value, minimum)}

    return parse


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"must be a dict with strings as keys, not {shown(value)}.")
    return {name: dict(value)}


def _namespace(name: str, value: Any) -> dict[str, Any]:
    if not is_queue_name(value):
        raise ValueError(f"must be 1 to 100 letters, digits, '_', '.' or '-', not {shown(value)}.")
    return {name: value}


def _queues(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f'must be a dict like {{"default": {{}}}}, not {shown(value)}.')
    queues = {}
    for queue, options in value.items():
        if not is_queue_name(queue):
            raise ValueError(f"names a queue {queue!r}: use 1 to 100 letters, digits, '_', '.' or '-'.")
        if not isinstance(options, Mapping):
            raise ValueError(f"must hold a dict of options for {queue!r}, not {shown(options)}.")
        try:
            queues[queue] = parse_queue(options)
        except ValueError as error:
            raise ValueError(f"gives queue {queue!r} {error}") from error
    return {name: queues}


def _record(name: str, value: Any) -> dict[str, Any]:
    if value not in RECORD_CHOICES:
        raise ValueError(f"must be 'all' or 'failures', not {shown(value)}.")
    return {name: value}


def _mode(name: str, value: Any) -> dict[str, Any]:
    if value not in MODES:
        raise ValueError(f"must be 'broker', 'eager' or 'collect', not {shown(value)}.")
    return {name: value}


def _retention(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: span(value), f"{name}_failed": span(value)}
    for key in value:
        if key not in ("default", "failed"):
            raise ValueError(f"has no key {key!r}: use 'default' and 'failed'.")
    return {name if key == "default" else f"{name}_failed": span(kept) for key, kept in value.items()}


def _seconds(name: str, value: Any) -> dict[str, Any]:
    return {name: span(value).total_seconds()}


def _outcome_window(name: str, value: Any) -> dict[str, Any]:
    window = span(value).total_seconds()
    if window < SHORTEST_WINDOW:
        raise ValueError(
            f"must be {SHORTEST_WINDOW:g} seconds or more, not {shown(value)}: a producer that repeats itself after a "
            "lost reply must still be recognised."
        )
    return {name: window}


def _flag(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {shown(value)}.")
    return {name: value}


def _aliases(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) or not isinstance(value, Iterable) or not (aliases := tuple(value)):
        raise ValueError(f"must be a list of aliases of DATABASES, one at least, not {shown(value)}.")
    for alias in aliases:
        if not isinstance(alias, str) or not alias:
            raise ValueError(f"must be a list of aliases of DATABASES; {shown(alias)} is none.")
    return {name: aliases}


def _paths(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"must be a list of dotted paths, not {shown(value)}.")
    paths = tuple(value)
    for path in paths:
        if not isinstance(path, str) or "." not in path:
            raise ValueError(f"must be a list of dotted paths; {shown(path)} is none.")
    return {name: paths}


def _capture_logs(name: str, value: Any) -> dict[str, Any]:
    return {name: parse_log_bounds(value)}


_PARSERS: dict[str, Parser] = {
    "BROKER": _broker,
    "BROKER_USER": _secret,
    "BROKER_PASSWORD": _secret,
    "BROKER_DB": _whole(0, optional=True),
    "BROKER_OPTIONS": _mapping,
    "NAMESPACE": _namespace,
    "QUEUES": _queues,
    "TASK_DEFAULTS": _mapping,
    "RECORD": _record,
    "RETENTION": _retention,
    "RETENTION_MAX_ROWS": _whole(0),
    "OUTCOME_WINDOW": _outcome_window,
    "MAX_OUTCOMES": _whole(1, optional=True),
    "MAX_PAYLOAD_BYTES": _whole(1),
    "MIDDLEWARE": _paths,
    "DATABASE": _text,
    "CAPTURE_LOGS": _capture_logs,
    "OUTBOX": _flag,
    "OUTBOX_DATABASES": _aliases,
    "METRICS_TOKEN": _secret,
    "CONTEXT_VARS": _paths,
    "MODE": _mode,
    "EAGER_PROPAGATES": _flag,
    "ENCRYPT": _flag,
    "ENCRYPTION_KEYS": _encryption_keys,
    "ENCRYPTION_ACCEPT_PLAIN": _flag,
}
