"""A recorded call as Python that can be pasted into a shell: imports and `task.delay(...)`.

Names come with the message, which anybody may have written: whatever is no name in Python is not shown as code.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import keyword
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from django_taskq.exceptions import TaskqError
from django_taskq.redaction import REDACTED
from django_taskq.registry import lookup

LONGEST = 65_536  # characters of JSON
_DATES = (dt.date, dt.time, dt.timedelta, dt.tzinfo)


def python_call(name: str, args: str, kwargs: str) -> str:
    """The call, with arguments of the types that the task's hints ask for; '' where it cannot be told."""
    if len(args) + len(kwargs) > LONGEST:
        return ""
    place, bound = _place_of(name), _bound(name, args, kwargs)
    if place is None or bound is None:
        return ""
    values, named = bound
    imports: set[str] = set()
    try:
        parts = [_literal(value, imports) for value in values]
        parts += [f"{key}={_literal(value, imports)}" for key, value in named.items() if _is_name(key)]
        odd = {key: value for key, value in named.items() if not _is_name(key)}
        parts += [f"**{_literal(odd, imports)}"] if odd else []
    except RecursionError:
        return ""
    module, function = place
    lines = [*sorted(imports), f"from {module} import {function}", "", f"{function}.{_verb(name)}({', '.join(parts)})"]
    if REDACTED in args + kwargs:
        lines.insert(-1, f"# {REDACTED}: its value is not in the records")
    # A lone surrogate (JSON may spell one) cannot be sent as UTF-8.
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode()


def _bound(name: str, args: str, kwargs: str) -> tuple[Any, Any] | None:
    """Arguments and keyword arguments: as the task would get them, or else as plain JSON values."""
    task = lookup(name)
    if task is not None:
        try:
            return task.bind(args.encode("utf-8", "replace"), kwargs.encode("utf-8", "replace"))
        except TaskqError:
            pass
    try:
        values, named = json.loads(args), json.loads(kwargs)
    except (ValueError, RecursionError):
        return None
    return (values, named) if isinstance(values, list) and isinstance(named, dict) else None


def _place_of(name: str) -> tuple[str, str] | None:
    """Module and function; of a task that this process does not know, as its name says, if that is one in Python."""
    task = lookup(name)
    if task is not None:
        return task.func.__module__, task.func.__qualname__
    if not all(map(_is_name, name.split("."))):
        return None
    module, _, function = name.rpartition(".")
    return module or "...", function


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _verb(name: str) -> str:
    task = lookup(name)
    return "delay" if task is None or task.interface == "django_taskq" else "enqueue"


def _literal(value: Any, imports: set[str]) -> str:
    """An expression that makes the value; notes what it needs."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        imports.add(f"from {kind.__module__} import {kind.__qualname__}")
        return f"{kind.__qualname__}.{value.name}"
    if isinstance(value, _DATES):
        imports.add("import datetime")
        return repr(value)
    if isinstance(value, Decimal | UUID):
        imports.add(f"from {kind.__module__} import {kind.__qualname__}")
        return repr(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key, imports)}: {_literal(item, imports)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_fields"):
        return _collection(value, [_literal(item, imports) for item in value])
    if fields := _fields(value):
        imports.add(f"from {kind.__module__} import {kind.__qualname__}")
        return f"{kind.__qualname__}({', '.join(f'{name}={_literal(item, imports)}' for name, item in fields.items())})"
    return repr(value)


def _collection(value: Any, items: list[str]) -> str:
    inside = ", ".join(items)
    if isinstance(value, list):
        return f"[{inside}]"
    if isinstance(value, tuple):
        return f"({inside},)" if len(items) == 1 else f"({inside})"
    name = "frozenset" if isinstance(value, frozenset) else "set"
    return f"{name}([{inside}])"


def _fields(value: Any) -> dict[str, Any]:
    """What a dataclass, a Struct or a named tuple holds."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return {name: getattr(value, name) for name in getattr(value, "_fields", ())}
