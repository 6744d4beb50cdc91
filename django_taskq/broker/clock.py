"""Redis' clock, the only one that times in messages, rows and limits are on."""

from __future__ import annotations

from collections.abc import Sequence


def epoch_seconds(reply: Sequence[bytes]) -> float:
    """What the reply to TIME says."""
    seconds, micros = reply
    return int(seconds) + int(micros) / 1e6
