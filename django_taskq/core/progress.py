"""How far a running task says it is."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

LONGEST_TEXT = 120  # bytes of UTF-8


class Progress(NamedTuple):
    """`current` of `total` (None: nobody knows), in units of the task's own, and a few words."""

    current: float
    total: float | None = None
    text: str = ""

    @property
    def share(self) -> float | None:
        """From 0 to 1; None without a total."""
        return None if not self.total else min(1.0, max(0.0, self.current / self.total))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


def encode_progress(progress: Progress) -> str:
    """One line of text."""
    return _encode(progress).decode()


def decode_progress(line: str) -> Progress | None:
    """The inverse; None for what is none."""
    try:
        return _decode(line)
    except (ValueError, msgspec.MsgspecError):
        return None
