"""Notes in shared memory: what each slot of a task process is running, for its supervisor to read after its death.

The length is written last and cleared first, so a process killed in between leaves no half note.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import NamedTuple

from django_taskq.core.progress import LONGEST_TEXT, Progress

SLOT = 256
_HEAD = struct.Struct("<xBdd")  # (length, apart), 1 if many, started, hard deadline
_LONGEST = SLOT - 1 - _HEAD.size
_LENGTH = struct.Struct("<I")
_PROGRESS = struct.Struct("<xBdd")  # (1 while there is some), length of the text, current, total (NaN: unknown)
PROGRESS_SLOT = _PROGRESS.size + LONGEST_TEXT


class Note(NamedTuple):
    """One running attempt. `started` is epoch seconds, `hard_deadline` monotonic seconds (0: none)."""

    location: bytes
    started: float
    hard_deadline: float
    progress: Progress | None = None


class Notes:
    """One note for each slot. Made before the fork, shared after it."""

    def __init__(self, slots: int, together: int = 1) -> None:
        """`together`: how many locations a slot may start at once, a line each."""
        self.slots = slots
        self._memory = mmap.mmap(-1, max(1, slots) * SLOT)
        # Memory that nobody writes to is not taken up.
        self._wide = _LENGTH.size + together * (_LONGEST + 1) if together > 1 else 0
        self._many = mmap.mmap(-1, max(1, slots * self._wide))
        self._progress = mmap.mmap(-1, max(1, slots) * PROGRESS_SLOT)

    def set(self, slot: int, location: bytes, started: float) -> None:
        """Notes what a slot starts."""
        at, length = slot * SLOT, len(location)
        if length > _LONGEST:
            self._set_many(slot, location, started)
            return
        memory = self._memory
        memory[at] = self._progress[slot * PROGRESS_SLOT] = 0
        _HEAD.pack_into(memory, at, 0, started, 0.0)
        memory[at + _HEAD.size : at + _HEAD.size + length] = location
        memory[at] = length

    def _set_many(self, slot: int, locations: bytes, started: float) -> None:
        if not self._wide:
            return
        at, wide, memory = slot * SLOT, slot * self._wide, self._memory
        if len(locations) > (most := self._wide - _LENGTH.size):
            locations = locations[:most].rpartition(b"\n")[0]
        memory[at] = self._progress[slot * PROGRESS_SLOT] = 0
        _HEAD.pack_into(memory, at, 1, started, 0.0)
        _LENGTH.pack_into(self._many, wide, len(locations))
        wide += _LENGTH.size
        self._many[wide : wide + len(locations)] = locations
        memory[at] = 1

    def limit(self, slot: int, hard_deadline: float) -> None:
        """Tells the supervisor when to kill this process for what the slot is running."""
        struct.pack_into("<d", self._memory, slot * SLOT + _HEAD.size - 8, hard_deadline)

    def report(self, slot: int, progress: Progress) -> None:
        """How far the slot's task is."""
        at, memory = slot * PROGRESS_SLOT, self._progress
        text = progress.text.encode("utf-8", "replace")[:LONGEST_TEXT]
        memory[at] = 0
        total = math.nan if progress.total is None else progress.total
        _PROGRESS.pack_into(memory, at, len(text), progress.current, total)
        memory[at + _PROGRESS.size : at + _PROGRESS.size + len(text)] = text
        memory[at] = 1

    def clear(self, slot: int) -> None:
        """The slot has finished."""
        self._memory[slot * SLOT] = 0

    def busy(self, first: int) -> tuple[int, int]:
        """How many of the first slots have a note, and how many of the others."""
        taken = [self._memory[slot * SLOT] > 0 for slot in range(self.slots)]
        return sum(taken[:first]), sum(taken[first:])

    def read(self) -> list[Note]:
        """All notes, one for each location."""
        found = []
        for slot in range(self.slots):
            at = slot * SLOT
            length = self._memory[at]
            if length:
                many, started, hard_deadline = _HEAD.unpack_from(self._memory, at)
                start = at + _HEAD.size
                noted = self._read_many(slot) if many else self._memory[start : start + length]
                progress = self._progress_of(slot)
                found += [Note(location, started, hard_deadline, progress) for location in noted.split(b"\n")]
        return found

    def _read_many(self, slot: int) -> bytes:
        start = slot * self._wide + _LENGTH.size
        (length,) = _LENGTH.unpack_from(self._many, slot * self._wide)
        return self._many[start : start + length]

    def _progress_of(self, slot: int) -> Progress | None:
        at = slot * PROGRESS_SLOT
        if not self._progress[at]:
            return None
        length, current, total = _PROGRESS.unpack_from(self._progress, at)
        start = at + _PROGRESS.size
        text = self._progress[start : start + length].decode("utf-8", "ignore")
        return Progress(current, None if math.isnan(total) else total, text)

    def close(self) -> None:
        """Gives the memory back."""
        self._memory.close()
        self._many.close()
        self._progress.close()
