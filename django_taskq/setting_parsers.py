"""One parser per key of TASKQ: (field name, value) -> fields of Settings; a ValueError says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_taskq.log_bounds import parse_log_bounds
from django_taskq.queue_options import parse_queue
from django_taskq.values import shown, span, whole

RECORD_CHOICES = ("all", "failures")
MODES = ("broker", "eager", "collect")  # see testing/
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
SHORTEST_WINDOW = 15.0  # seconds; longer than a producer repeats itself

Parser = Callable[[str, Any], dict[str, Any]]


def _is_queue_name(name: object) -> bool:
    """Whether a queue may be called that: 1 to 100 letters, digits, `_`, `.` and `-`."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


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
    if not _is_queue_name(value):
        raise ValueError(f"must be 1 to 100 letters, digits, '_', '.' or '-', not {shown(value)}.")
    return {name: value}


def _queues(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f'must be a dict like {{"default": {{}}}}, not {shown(value)}.')
    queues = {}
    for queue, options in value.items():
        if not _is_queue_name(queue):
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


PARSERS: dict[str, Parser] = {
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
