"""What several people look at at the same moment is looked up once: a cache of a second, shared where the site can."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from django_taskq.broker import Broker

T = TypeVar("T")
logger = logging.getLogger("django_taskq.admin")

# What these would save costs as much as it saves, or is seen by this process alone.
_NO_HELP = frozenset({"DummyCache", "LocMemCache", "DatabaseCache", "FileBasedCache"})
AVOIDED = 30.0  # seconds for which a cache that failed is left alone

_kept: weakref.WeakKeyDictionary[Broker, dict[str, tuple[float, Any]]] = weakref.WeakKeyDictionary()
_lock = threading.RLock()
_avoid_until = 0.0


def shared(broker: Broker, name: str, seconds: int, make: Callable[[], T]) -> T:
    """What `make` returned within the last `seconds`, in this process or in one that shares its cache.

    One thread of a process makes it while the others wait. What `make` raises is not kept: each that waited tries anew.
    Its result must be picklable.
    """
    with _lock:
        kept = _kept.setdefault(broker, {})
        made, value = kept.get(name, (0.0, None))
        if made and time.monotonic() - made < seconds:
            return value  # type: ignore[no-any-return]
        found = _try(lambda cache: cache.get(_key(broker, name)))
        if found is None:
            found = (make(),)
            _try(lambda cache: cache.set(_key(broker, name), found, seconds))
        kept[name] = (time.monotonic(), found[0])
        return found[0]  # type: ignore[no-any-return]


def forget(broker: Broker, *names: str) -> None:
    """After a change: the next look is a new one. (Another process may show the old state for its second.)"""
    with _lock:
        for name in names:
            _kept.get(broker, {}).pop(name, None)
            _drop(_key(broker, name))


def _drop(key: str) -> None:
    _try(lambda cache: cache.delete(key))


def _key(broker: Broker, name: str) -> str:
    where = f"{broker.connections.location.display} {broker.keys.tag}"
    return f"django_taskq:{blake2b(where.encode(), digest_size=8).hexdigest()}:{name}:1"


def _try(use: Callable[[BaseCache], Any]) -> Any:
    """The site's cache is a convenience: without it, or when it fails, everything is looked up."""
    global _avoid_until
    cache = caches["default"]
    if type(cache).__name__ in _NO_HELP or time.monotonic() < _avoid_until:
        return None
    try:
        return use(cache)
    except Exception as error:  # noqa: BLE001 - backends raise what their libraries raise, and unpickling anything
        logger.warning("the site's cache cannot be used: %s", error)
        _avoid_until = time.monotonic() + AVOIDED
        return None
