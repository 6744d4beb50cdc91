"""Task ids: UUIDv7 made by the producer (RFC 9562, section 5.7), 16 raw bytes on the wire, hyphenated text elsewhere.

The 12 bits of `rand_a` hold the fraction of the millisecond (method 3 of section 6.2), so ids made by one process sort
by creation and database inserts stay local. The random bits come from the operating system, many at a time: asking it
for each id costs more than all the rest.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator

_VERSION = 7 << 12
_VARIANT = 2 << 62
_RANDOM_BITS = (1 << 62) - 1
_pack = struct.Struct(">QQ").pack


class _Random(threading.local):
    """Random numbers of 64 bits, each for one thread and for one side of a fork."""

    numbers: Iterator[tuple[int]] = iter(())


_random = _Random()


def new_id() -> bytes:
    """A new id, 16 raw bytes."""
    try:
        [random] = next(_random.numbers)
    except StopIteration:
        _random.numbers = struct.iter_unpack(">Q", os.urandom(1024))
        [random] = next(_random.numbers)
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return _pack(milliseconds << 16 | _VERSION | fraction, _VARIANT | random & _RANDOM_BITS)


def id_at(milliseconds: int, digest: bytes) -> bytes:
    """The id of what is to happen once at a time (epoch ms), whoever makes it: the same digest makes the same id.

    Of `digest` the first ten bytes take the place of the random ones.
    """
    number = int.from_bytes(digest[:10], "big")
    return _pack(milliseconds << 16 | _VERSION | number >> 68, _VARIANT | number & _RANDOM_BITS)


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


def _after_fork() -> None:
    global _random
    _random = _Random()


os.register_at_fork(after_in_child=_after_fork)
