"""Task ids: UUIDv7 made by the producer (RFC 9562, section 5.7), 16 raw bytes on the wire, hyphenated text elsewhere.

The 12 bits of `rand_a` hold the fraction of the millisecond (method 3 of section 6.2), so ids made by one process sort
by creation and database inserts stay local.
"""

from __future__ import annotations

import os
import time
import uuid

_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_BITS = (1 << 62) - 1


def new_id() -> bytes:
    """A new id, 16 raw bytes."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM_BITS
    return (milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | random).to_bytes(16, "big")


def id_to_str(raw: bytes) -> str:
    """The hyphenated form of 16 raw bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_from_str(text: str) -> bytes:
    """The raw bytes of any spelling of a UUID; ValueError for anything else."""
    try:
        return uuid.UUID(text).bytes
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{text!r} is not a task id (a UUID)") from error
