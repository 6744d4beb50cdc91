"""The settings: one dict, TASKQ, read once into a frozen dataclass. docs/configuration.md explains each key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_taskq.log_bounds import LogBounds
from django_taskq.queue_options import QueueOptions
from django_taskq.setting_parsers import PARSERS
from django_taskq.values import close_match, shown

# A secret is given as it is, as "file:/path", or by a callable that is asked at each new connection.
Secret = str | Callable[[], str] | None


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
        if key not in PARSERS:
            raise ImproperlyConfigured(f"TASKQ has no key {key!r}.{close_match(key, PARSERS)}")
        try:
            fields |= PARSERS[key](key.lower(), value)
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
