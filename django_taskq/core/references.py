"""Values that travel as a reference, because they live elsewhere: what hints and codec must know about them.

The core knows none by itself. django_taskq/model_references.py is the kind there is: rows, which live in the database.
"""

from __future__ import annotations

from typing import Any, Protocol


class Referring(Protocol):
    """A kind of values that are sent by reference."""

    def takes(self, kind: type) -> bool:
        """Whether values of this class are of the kind."""

    def refer(self, value: Any) -> dict[str, Any]:
        """The reference as JSON values; raises ValueError for a value that has none."""

    def restore(self, kind: type, reference: Any) -> Any:
        """A stand-in for the value, an instance of `kind`, that is filled later; raises ValueError."""


_kind: Referring | None = None


def set_referring(kind: Referring) -> None:
    """Makes the kind known. (It is a layer above this one.)"""
    global _kind
    _kind = kind


def by_reference(kind: type) -> bool:
    """Whether values of this class travel as references."""
    return _kind is not None and _kind.takes(kind)


def encode_reference(value: Any) -> dict[str, Any] | None:
    """The reference of a value, None for one that travels as it is."""
    return _kind.refer(value) if _kind is not None and _kind.takes(type(value)) else None


def decode_reference(kind: type, reference: Any) -> Any:
    """As msgspec's `dec_hook`."""
    if _kind is None or not _kind.takes(kind):
        # The error that msgspec asks a hook for where it does not support a class.
        raise NotImplementedError(f"nothing converts to {kind!r}")
    return _kind.restore(kind, reference)
