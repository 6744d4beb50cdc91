"""Which databases of which Redis servers the settings name: a cache must not share the broker's."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings as django_settings

from django_taskq.conf import Settings

RedisDatabase = tuple[str, int, int]  # host or socket, port, database


def broker_databases(settings: Settings) -> set[RedisDatabase]:
    """Those that TASKQ["BROKER"] names: one, or none for an embedded server or a cache that is not there."""
    if "://" in settings.broker:
        return _databases([settings.broker], settings.broker_db)
    cache = django_settings.CACHES.get(settings.broker, {})
    return cache_databases(cache, settings.broker_db)


def cache_databases(cache: Any, db: int | None = None) -> set[RedisDatabase]:
    """Those that an entry of CACHES names; `db` is that of TASKQ["BROKER_DB"]."""
    location, options = cache.get("LOCATION") or "", cache.get("OPTIONS") or {}
    urls = location.replace(";", ",").split(",") if isinstance(location, str) else list(location)
    return _databases(urls, db if db is not None else options.get("db", options.get("DB")))


def _databases(urls: list[str], db: int | None) -> set[RedisDatabase]:
    """Of each URL that names a server (an embedded:// one does not); a given `db` overrules the URL's."""
    found = set()
    for url in urls:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("redis", "rediss", "unix"):
            continue
        asked = parse_qs(parts.query).get("db", [""])[0]
        if parts.scheme == "unix":
            where, port, in_path = parts.path, 0, ""
        else:
            where, port, in_path = parts.hostname or "localhost", parts.port or 6379, parts.path.strip("/")
        where = "localhost" if where in ("127.0.0.1", "::1") else where
        number = str(db) if db is not None else asked or in_path
        found.add((where, port, int(number) if number.isdigit() else 0))
    return found
