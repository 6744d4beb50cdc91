"""Notes in shared memory: what each slot of a task process is running, for its supervisor to read after its death.

The length is written last and cleared first, so a process killed in between leaves no half note.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

SLOT = 256
_HEAD = struct.Struct("<xBdd")  # (length, apart), started, hard deadline
_LONGEST = SLOT - 1 - _HEAD.size


class Note(NamedTuple):
    """One running attempt. `started` is epoch seconds, `hard_deadline` monotonic seconds (0: none)."""

    location: bytes
    started: float
    hard_deadline: float


class Notes:
    """One note for each slot. Made before the fork, shared after it."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, max(1, slots) * SLOT)

    def set(self, slot: int, location: bytes, started: float) -> None:
        """Notes what a slot starts."""
        at, length = slot * SLOT, len(location)
        if length > _LONGEST:
            return
        memory = self._memory
        memory[at] = 0
        _HEAD.pack_into(memory, at, 0, started, 0.0)
        memory[at + _HEAD.size : at + _HEAD.size + length] = location
        memory[at] = length

    def limit(self, slot: int, hard_deadline: float) -> None:
        """Tells the supervisor when to kill this process for what the slot is running."""
        struct.pack_into("<d", self._memory, slot * SLOT + _HEAD.size - 8, hard_deadline)

    def clear(self, slot: int) -> None:
        """The slot has finished."""
        self._memory[slot * SLOT] = 0

    def read(self) -> list[Note]:
        """All notes."""
        found = []
        for at in range(0, self.slots * SLOT, SLOT):
            length = self._memory[at]
            if length:
                _, started, hard_deadline = _HEAD.unpack_from(self._memory, at)
                start = at + _HEAD.size
                found.append(Note(self._memory[start : start + length], started, hard_deadline))
        return found

    def close(self) -> None:
        """Gives the memory back."""
        self._memory.close()
