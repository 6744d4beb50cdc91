"""Pages of lists, each with a cursor that says where the next begins. No page counts or skips rows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from django_taskq.api.errors import ApiError

T = TypeVar("T")
MOST = 200
Key = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # a primary key
Micros = Annotated[int, msgspec.Meta(ge=0, le=221_845_392_000_000_000)]  # since the epoch, up to the year 9000


def clamp(number: int, most: int = MOST) -> int:
    """Between 1 and `most`."""
    return max(1, min(number, most))


def encode_cursor(*position: Any) -> str:
    """An opaque text for a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(text: str, kind: type[T]) -> T:
    """The position in a cursor, as a tuple of that kind; ApiError 400."""
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, "invalid_cursor", "The cursor is not one that this list gave.") from error


def by_name(items: Sequence[T], name: Callable[[T], str], limit: int, cursor: str) -> tuple[list[T], str | None]:
    """A page of a short list that is at hand whole, and the cursor of the next."""
    after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
    left = sorted((item for item in items if name(item) > after), key=name)
    limit = clamp(limit)
    return left[:limit], encode_cursor(name(left[limit - 1])) if len(left) > limit else None
