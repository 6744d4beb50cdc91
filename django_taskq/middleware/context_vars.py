"""Context variables of the project's own go with the tasks: a tenant, a user, a flag.

TASKQ = {
    "MIDDLEWARE": ["django_taskq.middleware.context_vars.context_vars", ...],
    "CONTEXT_VARS": ["shop.tenancy.current_tenant"],
}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.decorators import sync_and_async_middleware
from django.utils.module_loading import import_string

from django_taskq.conf import get_settings
from django_taskq.context import TaskContext
from django_taskq.middleware.base import Call, Factory, around
from django_taskq.middleware.headers import header_of

HEADER = "context:vars"
LONGEST = 8_192  # bytes of JSON, all of them together

_UNSET = object()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


@cache
def variables() -> dict[str, ContextVar[Any]]:
    """Those of TASKQ["CONTEXT_VARS"] by their paths; ImproperlyConfigured names one that is none."""
    return {path: _imported(path) for path in get_settings().context_vars}


def _imported(path: str) -> ContextVar[Any]:
    try:
        variable = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"TASKQ['CONTEXT_VARS']: {path} cannot be imported: {error}") from error
    if not isinstance(variable, ContextVar):
        raise ImproperlyConfigured(f"TASKQ['CONTEXT_VARS']: {path} is no ContextVar: {variable!r:.100}.")
    return variable


def _headers(*_: Any) -> dict[str, str]:
    """Those that are set. Raises ImproperlyConfigured for what JSON would change, or what is too long."""
    values = {path: value for path, variable in variables().items() if (value := variable.get(_UNSET)) is not _UNSET}
    if not values:
        return {}
    for path, value in values.items():
        if not _survives(value):
            raise ImproperlyConfigured(
                f"TASKQ['CONTEXT_VARS']: {path} is {value!r:.100}, which JSON cannot hold or would change. Let the "
                "variable hold strings, numbers, lists and dicts: an id instead of an object."
            )
    encoded = _encode(values)
    if len(encoded) > LONGEST:
        raise ImproperlyConfigured(
            f"TASKQ['CONTEXT_VARS']: the variables take {len(encoded):,} bytes; {LONGEST:,} may go with a task. "
            "Pass the data as an argument."
        )
    return {HEADER: encoded.decode()}


def _survives(value: Any) -> bool:
    try:
        return bool(msgspec.json.decode(_encode(value)) == value)
    except Exception:  # noqa: BLE001 - TypeError, RecursionError, and whatever a foreign __eq__ raises
        return False


@contextmanager
def _attempt(context: TaskContext) -> Iterator[None]:
    """Sets what this worker knows; others, and what cannot be read, change nothing."""
    given = _read(header_of(context, HEADER))
    tokens = [(variable, variable.set(given[path])) for path, variable in variables().items() if path in given]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


def _read(header: str) -> dict[str, Any]:
    if not header or len(header) > LONGEST:
        return {}
    try:
        return _decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _forget(setting: str, **_: object) -> None:
    if setting == "TASKQ":
        variables.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_taskq.middleware.context_vars")

_around: Factory = around(_attempt)


@sync_and_async_middleware
def context_vars(call: Call) -> Call:
    """A variable that cannot be imported is found when the worker starts, and not by its first task."""
    variables()
    return _around(call)


context_vars.headers = _headers  # type: ignore[attr-defined]
