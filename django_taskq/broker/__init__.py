"""Everything that talks to Redis. `get_broker()` is the process-wide broker of the current settings."""

from __future__ import annotations

import threading
from typing import Any

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_taskq.broker.broker import Broker
from django_taskq.broker.found import Found
from django_taskq.broker.submission import Accepted, Submission
from django_taskq.conf import get_settings

__all__ = ["Accepted", "Broker", "Found", "Submission", "get_broker"]

# What takes the broker's place where TASKQ["MODE"] keeps tasks in this process; named, because it is a layer above us.
LOCAL = "django_taskq.testing.local.local_broker"

_broker: Broker | None = None
_lock = threading.Lock()


def get_broker() -> Broker:
    """The broker of TASKQ; made at first use, thread-safe, usable after a fork."""
    global _broker
    broker = _broker
    if broker is None:
        with _lock:
            if _broker is None:
                settings = get_settings()
                made: Broker = (import_string(LOCAL) if settings.is_local else Broker.from_settings)(settings)
                _broker = made
            broker = _broker
    return broker


def _reset(*, setting: str, **_: Any) -> None:
    global _broker
    if setting in {"TASKQ", "CACHES"}:
        if _broker is not None:
            _broker.connections.close()
        _broker = None


setting_changed.connect(_reset, dispatch_uid="django_taskq.broker")
