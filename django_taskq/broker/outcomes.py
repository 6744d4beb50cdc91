"""The outcome stream as the recorder sees it: a lease, a cursor, and what may be trimmed behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from django_taskq.broker import scripts
from django_taskq.core.outcome import Outcome, decode_outcome

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

TRIM_BATCH = 500


class OutcomeStream:
    """Raises BrokerUnavailable, BrokerFull or BrokerRefused; nothing here is repeated by itself."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self.connections, self.keys = connections, keys

    def recorder_lease(self, owner: str, ttl_ms: int) -> str | None:
        """Takes or renews the recorder's lease; the cursor, or None when another owner holds it."""
        cursor = self.connections.run(scripts.LEASE, (2, self.keys.index, self.keys.recorder, owner, ttl_ms))
        return None if cursor is None else cursor.decode()

    def read_outcomes(self, cursor: str, count: int) -> list[tuple[str, Outcome | None]]:
        """Up to `count` outcomes after the cursor, with their entry ids; None where one cannot be decoded."""
        entries = self.connections.execute("XRANGE", self.keys.outcomes, f"({cursor}", "+", "COUNT", count)
        return [(entry.decode(), _decode(fields)) for entry, fields in entries]

    def read_raw_outcome(self, entry: str) -> list[bytes]:
        """The flat fields of one outcome entry, for one that cannot be decoded."""
        entries = self.connections.execute("XRANGE", self.keys.outcomes, entry, entry)
        return list(entries[0][1]) if entries else []

    def advance(self, owner: str, expected: str, cursor: str, count: int) -> bool:
        """Moves the cursor from `expected` over `count` recorded outcomes; False when lease or cursor is another's."""
        arguments = (2, self.keys.index, self.keys.recorder, owner, expected, cursor, count)
        return bool(self.connections.run(scripts.ADVANCE, arguments))

    def trim(self, owner: str, window_ms: int, floor_ms: int = 15_000, newest: int = 10_000) -> int:
        """Removes recorded outcomes older than the window, or older than the floor and beyond the newest ones.

        Returns how many, 500 or about 1 MiB at most; call again until that is 0.
        """
        names = (3, self.keys.index, self.keys.outcomes, self.keys.recorder)
        return int(self.connections.run(scripts.TRIM, (*names, owner, window_ms, floor_ms, newest, TRIM_BATCH)))

    def recorder_lag(self) -> int:
        """How many outcomes are not in the database yet."""
        lingering = self.connections.execute("HGET", self.keys.recorder, "lingering")
        return max(0, int(self.connections.execute("XLEN", self.keys.outcomes)) - int(lingering or 0))


def _decode(fields: list[bytes]) -> Outcome | None:
    try:
        return decode_outcome(dict(zip(fields[::2], fields[1::2], strict=True))[b"o"])
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None
