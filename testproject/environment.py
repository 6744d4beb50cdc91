"""Settings that come from the environment, or from a `.env` file beside manage.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

# One writer at a time is all SQLite has. Asking for the lock when a transaction begins (IMMEDIATE) makes the others
# queue for it; asking in the middle of one (Django's default) fails at once as soon as somebody else has written.
SQLITE_OPTIONS: dict[str, Any] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,  # seconds to wait for another writer
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;",
}

SERVERS = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql"}  # scheme of a URL: Django's engine


def read_dotenv(path: Path) -> None:
    """Take NAME=value lines as defaults for the environment: what is set already wins. A missing file is no error."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith("#"):
            os.environ.setdefault(name.strip(), value.strip().strip("'\""))


def metered(database: dict[str, Any]) -> dict[str, Any]:
    """The same database, through the engine of django-prometheus."""
    kind = database["ENGINE"].rpartition(".")[2]
    return {**database, "ENGINE": f"django_prometheus.db.backends.{kind}"}


def broker_url(default: str) -> str:
    """`REDIS_URL`, or one made of `REDIS_ADDR` (host:port), `REDIS_PASSWORD` and `REDIS_DB`, or the default."""
    if url := os.environ.get("REDIS_URL"):
        return url
    if address := os.environ.get("REDIS_ADDR"):
        password = os.environ.get("REDIS_PASSWORD", "")
        credentials = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{credentials}{address}/{os.environ.get('REDIS_DB', '0')}"
    return default


def database(url: str) -> dict[str, Any]:
    """Django's settings for `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://user:password@host:port/name`.

    `mysql://` is MySQL and MariaDB. A query string becomes OPTIONS; `?host=/a/directory` names the directory of
    PostgreSQL's unix socket.
    Raises ValueError for any other scheme.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": SQLITE_OPTIONS}
    if parts.scheme not in SERVERS:
        raise ValueError(f"DATABASE_URL: unknown scheme {parts.scheme!r} (sqlite, {', '.join(SERVERS)})")
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": f"django.db.backends.{SERVERS[parts.scheme]}",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }
