"""What a type hint means for one parameter or result: how its JSON is decoded and what may be given for it.

A hint that msgspec cannot convert to (a Protocol, `str | datetime`) counts as no hint: such a parameter
takes plain JSON values and nothing else. So does, inside a hint, whatever is `Any`: `dict`, `list[Any]`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType, SimpleNamespace
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
from msgspec import inspect

from django_taskq.core.fidelity import difference, same, vanished
from django_taskq.core.references import by_reference, decode_reference


@dataclass(frozen=True, slots=True)
class Converter:
    """Between the values of one parameter and JSON."""

    hint: Any
    decode: Callable[[Any], Any]
    # The value must come back exactly as it was, because no hint says what it was.
    exact: bool
    # Exact types whose every value makes the trip unharmed: nothing needs to be checked for them.
    accepts: frozenset[type]
    refers: bool = False  # there are references in it, which the worker follows

    def lost(self, name: str, value: Any, decoded: Any) -> str | None:
        """What the trip through JSON did to `value`, in words; None if it arrives as it should."""
        if same(value, decoded):
            return None
        if self.exact:
            return difference(name, value, decoded)
        if isinstance(value, _TEXT_TYPES) and type(value) is type(decoded):
            return None
        return vanished(name, value, decoded)


_TEXT_TYPES = (dt.date, dt.time, dt.timedelta, Decimal, UUID, bytes)  # a datetime is a date, too
# (int: of any size. float: not if it is NaN. So floats are looked at.)
_PLAIN_TYPES: frozenset[type] = frozenset({str, int, bool, NoneType})
_CARRIED: tuple[tuple[inspect.Type, frozenset[type]], ...] = (
    (inspect.AnyType(), _PLAIN_TYPES),
    (inspect.StrType(), frozenset({str})),
    (inspect.IntType(), frozenset({int})),
    (inspect.BoolType(), frozenset({bool})),
    (inspect.NoneType(), frozenset({NoneType})),
    (inspect.UUIDType(), frozenset({UUID})),
    (inspect.DateType(), frozenset({dt.date})),
)

UNHINTED = Converter(Any, msgspec.json.Decoder().decode, exact=True, accepts=_PLAIN_TYPES)


def converter_for(hint: Any, *, refers: bool = False) -> Converter:
    """The converter of a resolved hint; with `refers`, values may travel by reference.

    NameError if a class it names has hints that cannot be resolved.
    """
    if hint is Any:
        return UNHINTED
    try:
        parts = list(_parts(inspect.type_info(hint)))
        custom = [part.cls for part in parts if isinstance(part, inspect.CustomType)]
        refers = refers and bool(custom) and all(map(by_reference, custom))
        decode = msgspec.json.Decoder(hint, dec_hook=decode_reference if refers else None).decode
    except (TypeError, ValueError, AttributeError):
        return UNHINTED
    if (custom and not refers) or any(isinstance(part, inspect.RawType | inspect.ExtType) for part in parts):
        return UNHINTED
    exact = any(isinstance(part, inspect.AnyType) for part in parts)
    return Converter(hint, decode, exact, _carried(parts[0]), refers)


def resolve(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """An annotation as a type; NameError (or what else evaluating it raises) if it is a string that means nothing."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    holder: Any = SimpleNamespace(__annotations__={name: annotation})
    return get_type_hints(holder, globalns=getattr(function, "__globals__", {}), include_extras=True)[name]


def _carried(info: inspect.Type) -> frozenset[type]:
    if isinstance(info, inspect.UnionType):
        return frozenset().union(*(_carried(member) for member in info.types))
    if isinstance(info, inspect.CustomType):
        return frozenset({info.cls})
    for plain, types in _CARRIED:
        if info == plain:  # with a constraint (Meta(gt=0)) it is not equal
            return types
    return frozenset()


def _parts(info: inspect.Type) -> Iterator[inspect.Type]:
    """The type and every type inside it, itself first; classes may refer to themselves."""
    seen: set[int] = set()
    pending: list[Any] = [info]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending.extend(item)
        elif isinstance(item, inspect.Type | inspect.Field) and id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, inspect.Type):
                yield item
            pending.extend(getattr(item, field) for field in item.__struct_fields__)
