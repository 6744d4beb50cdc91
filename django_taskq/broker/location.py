"""Where Redis is and how to connect to it: a URL, a django-redis alias, or the embedded server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from django_taskq.broker.tls import PinnedConnection
from django_taskq.conf import reveal

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_taskq.conf import Settings

# Functions that start a server of our own and return its URL; named, because this layer knows nothing of them.
STARTERS = {"embedded": "django_taskq.embedded.ensure_running"}

DEFAULTS: dict[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "protocol": 2,  # the shapes of replies that this package reads
    "max_connections": 1_000_000,  # threads bound it, not the pool
    "client_name": "django_taskq",
}


class Credentials(CredentialProvider):
    """Asks for user and password at every connect, so that rotated secrets are picked up."""

    def __init__(self, user: str | Callable[[], str] | None, password: str | Callable[[], str] | None) -> None:
        self.user, self.password = user, password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """(password) or (user, password)."""
        password, user = reveal(self.password) or "", reveal(self.user)
        return (user, password) if user else (password,)


class Location:
    """Where one Redis is. `display` is fit for logs: it holds no password. `options` are redis-py's, e.g. time-outs."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._settings, self._options = settings, options
        self._starter = STARTERS.get(urlsplit(settings.broker).scheme)
        self._pool: redis.ConnectionPool | None = None
        self.display = _without_secrets(settings.broker)

    def with_options(self, **options: Any) -> Location:
        """The same place, with other options of redis-py."""
        return Location(self._settings, **{**self._options, **options})

    def new_connection(self) -> redis.Connection:
        """A connection that is not connected yet."""
        if self._pool is None:
            self._pool = self.new_pool()
        return cast("redis.Connection", self._pool.make_connection())

    def revive(self) -> bool:
        """Starts the embedded server where it is not running. Returns False where Redis is somebody else's."""
        if self._starter is None:
            return False
        self._pool = None
        self.new_connection()
        return True

    def new_pool(self, **options: Any) -> redis.ConnectionPool:
        """A pool of its own with our timeouts, without redis-py's retries."""
        settings = self._settings
        extra: dict[str, Any] = {**DEFAULTS, "retry": Retry(NoBackoff(), 0)}
        given = dict(settings.broker_options)
        fingerprint = given.pop("ssl_fingerprint", None)
        extra.update(given | self._options | options)
        if settings.broker_db is not None:
            extra["db"] = settings.broker_db
        pool = self._alias_pool(extra) if "://" not in settings.broker else _url_pool(self._url(), extra)
        if settings.broker_user or settings.broker_password:
            user, password = (pool.connection_kwargs.pop(name, None) for name in ("username", "password"))
            pool.connection_kwargs["credential_provider"] = Credentials(
                settings.broker_user or user, settings.broker_password or password
            )
        if issubclass(pool.connection_class, redis.UnixDomainSocketConnection):
            for tcp_only in ("socket_keepalive", "socket_connect_timeout"):
                pool.connection_kwargs.pop(tcp_only, None)
        if fingerprint:
            pool.connection_class = PinnedConnection
            pool.connection_kwargs["fingerprint"] = fingerprint
        return pool

    def _url(self) -> str:
        if self._starter is None:
            return self._settings.broker
        start = cast("Callable[[str], str]", import_string(self._starter))
        return start(self._settings.broker)

    def _alias_pool(self, extra: dict[str, Any]) -> redis.ConnectionPool:
        """Reads location, credentials, TLS and Sentinel options of a django-redis cache into a pool of our own."""
        from django_redis.pool import get_connection_factory

        alias = self._settings.broker
        cache: dict[str, Any] | None = django_settings.CACHES.get(alias)
        if cache is None or "django_redis" not in str(cache.get("BACKEND", "")):
            raise ImproperlyConfigured(
                f"TASKQ['BROKER'] is {alias!r}: neither a URL (redis://, rediss://, unix://, embedded://) nor a CACHES "
                "alias with the backend django_redis.cache.RedisCache."
            )
        location = cache["LOCATION"]
        url = location.split(",")[0] if isinstance(location, str) else location[0]
        factory = get_connection_factory(options=dict(cache.get("OPTIONS", {})))
        pool = factory.get_connection_pool(factory.make_connection_params(url))
        pool.connection_kwargs.pop("decode_responses", None)
        pool.connection_kwargs.update({key: value for key, value in extra.items() if key != "max_connections"})
        pool.max_connections = extra["max_connections"]
        return cast("redis.ConnectionPool", pool)


def _url_pool(url: str, extra: dict[str, Any]) -> redis.ConnectionPool:
    try:
        pool = redis.ConnectionPool.from_url(url, **extra)
    except ValueError as error:
        raise ImproperlyConfigured(f"TASKQ['BROKER'] cannot be used: {error}") from error
    pool.connection_kwargs.update({key: extra[key] for key in ("db",) if key in extra})
    return pool


def _without_secrets(broker: str) -> str:
    """The address without a password, wherever it stands; of the query only the database is of interest."""
    parts = urlsplit(broker)
    netloc = f"***@{parts.netloc.rpartition('@')[2]}" if parts.password else parts.netloc
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name == "db"])
    return f"{parts.scheme}://{netloc}{parts.path}" + (query and f"?{query}") if parts.scheme else broker
