"""`embedded://[path][?idle=seconds]`: a private Redis or Valkey server for development and tests.

One server per directory (default `.taskq` below BASE_DIR), shared by all processes of the project through a unix
socket, started by whoever needs it first and gone 60 seconds after its last client. Its append-only file stays, so
queued tasks survive. Not for production (`check --deploy` says so), and not for Windows, which has neither the
servers nor the locks this needs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

SCHEME = "embedded://"
IDLE = 60.0  # seconds the server stays after its last client


class Location(NamedTuple):
    directory: Path
    idle: float


def parse_location(location: str) -> Location:
    """Split `embedded://[path][?idle=seconds]`; a relative path is below BASE_DIR. Raises ImproperlyConfigured."""
    path, _, query = location.removeprefix(SCHEME).partition("?")
    options = parse_qs(query, keep_blank_values=True)
    idle = options.pop("idle", [str(IDLE)])[-1]
    if not location.startswith(SCHEME) or options or not re.fullmatch(r"\d+(\.\d+)?", idle):
        raise ImproperlyConfigured(f"{location!r} is not of the form embedded://[path][?idle=seconds]")
    base = Path(getattr(settings, "BASE_DIR", None) or Path.cwd())
    return Location((base / (unquote(path) or ".taskq")).absolute(), float(idle))


def ensure_running(location: str) -> str:
    """Start the server of `location` unless it is running, and return its address, `unix:///path?db=0`.

    Safe to call at any time from any number of threads and processes. The server stays for at least its idle time
    after the call. Raises ImproperlyConfigured without a usable server program or on Windows, and BrokerUnavailable,
    with the end of the server's log, if it cannot be started.
    """
    _refuse_windows()
    from django_taskq.embedded import launcher

    return f"unix://{quote(launcher.ensure_running(*parse_location(location)))}?db=0"


def stop(location: str) -> bool:
    """End the server of `location` now, clients or not; what it holds stays on disk. False if none was running."""
    _refuse_windows()
    from django_taskq.embedded import launcher

    return launcher.stop(parse_location(location).directory)


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise ImproperlyConfigured(
            "embedded:// does not run on Windows: start a server and give TASKQ['BROKER'] its URL"
        )
