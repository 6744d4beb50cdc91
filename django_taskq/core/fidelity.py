"""Whether a value survived the trip through JSON, and if not, where it changed.

Everything here walks with a list of its own instead of recursion: arguments may be nested deeper than Python's stack.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import marshal
import math
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

# JSON carries these as text, so they come back only where a type hint says so.
_TEXT_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bytes", (bytes, bytearray, memoryview)),
    ("UUID", (UUID,)),
    ("Decimal", (Decimal,)),
    ("datetime", (dt.datetime,)),
    ("date", (dt.date,)),
    ("time", (dt.time,)),
    ("timedelta", (dt.timedelta,)),
)


def same(value: Any, decoded: Any) -> bool:
    """Whether both are equal, plain JSON values with equal types at every depth.

    marshal tells 1 from True, a list from a tuple and an IntEnum from an int, and refuses what is not built in: one C
    call instead of a walk. Version 2 of its format has no references, so equal values give equal bytes.
    """
    try:
        return marshal.dumps(value, 2) == marshal.dumps(decoded, 2)
    except ValueError:
        return False


def difference(name: str, value: Any, decoded: Any) -> str | None:
    """Where and how `decoded` differs from `value`, in words; None if it does not."""
    pending = [(name, value, decoded)]
    while pending:
        path, before, after = pending.pop()
        if type(before) is not type(after):
            if isinstance(before, float) and not math.isfinite(before):
                return f"{path} is {before!r}, which JSON does not have"
            return f"{path} is of type {_name(before)} and would arrive as {_name(after)}"
        if isinstance(before, dict):
            for key in before:
                if not isinstance(key, str):
                    return f"{path} has the key {key!r} of type {_name(key)}; JSON's keys are strings"
                if key not in after:
                    return f"{path} would lose the key {key!r}"
                pending.append((f"{path}[{key!r}]", before[key], after[key]))
        elif isinstance(before, list | tuple):
            pending.extend((f"{path}[{i}]", *pair) for i, pair in enumerate(zip(before, after, strict=False)))
        elif fields := _field_names(before):
            pending.extend((f"{path}.{field}", getattr(before, field), getattr(after, field)) for field in fields)
        elif before != after:
            return f"{path} is {_shortened(before)} and would arrive as {_shortened(after)}"
    return None


def vanished(name: str, value: Any, decoded: Any) -> str | None:
    """What `value` holds that `decoded`, which a type hint made, holds no more; None if nothing.

    A hint may turn a tuple into a list or an int into a float; it must not let bytes arrive as base64 in a str.
    """
    if not_finite := non_finite(value):
        return f"{name} holds {not_finite!r}, which JSON does not have"
    lost = _text_kinds(value) - _text_kinds(decoded)
    return f"{name} holds {', '.join(sorted(lost))}, which its type hint does not take" if lost else None


def non_finite(value: Any) -> float | None:
    """A NaN or Infinity inside `value`: JSON has neither, and the encoder writes null."""
    for leaf in leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            return leaf
    return None


def _text_kinds(value: Any) -> set[str]:
    found: set[str] = set()
    for leaf in leaves(value):
        if isinstance(leaf, Enum) and not isinstance(leaf, str | int):
            found.add("Enum")
        else:
            found.update([name for name, types in _TEXT_KINDS if isinstance(leaf, types)][:1])
    return found


def leaves(value: Any) -> Iterator[Any]:
    """What is inside lists, tuples, sets, dicts, dataclasses and Structs, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif fields := _field_names(item):
            pending.extend(getattr(item, field) for field in fields)
        else:
            yield item


def _field_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(field.name for field in dataclasses.fields(value))
    return ()


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
