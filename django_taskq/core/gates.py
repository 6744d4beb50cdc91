"""Gates: what decides at the claim whether a message may be handed over. Packed for broker/lua/lib/gates.lua.

A task's gates travel with each of its messages in field q, a queue's with each claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Signature
from typing import Any

import msgspec

from django_taskq.core.call_key import CallKey, KeySource
from django_taskq.queue_options import QueueOptions

Gate = tuple[Any, ...]  # its kind, then what the scripts of that kind read

WAIT, DISCARD, REPLACE = "wait", "discard", "replace"
ON_CONFLICT = (WAIT, DISCARD, REPLACE)

_pack = msgspec.msgpack.Encoder().encode


def limit_name(task: str, key: str = "") -> str:
    """What a limit of a task, or of one key of a task, is called in Redis."""
    return f"task:{task}{key and ':'}{key}"


def concurrency_gate(limit: str, most: int, on_conflict: str = WAIT) -> Gate:
    """At most so many deliveries at once."""
    return ("c", limit, most, on_conflict)


class TaskGates:
    """The gates of one task's calls."""

    def __init__(
        self, task: str, signature: Signature, *, max_concurrency: int | None = None,
        concurrency_key: KeySource | None = None, on_conflict: str = WAIT,
    ) -> None:  # fmt: skip
        """Raises InvalidTask for a key that the signature cannot give."""
        self._task, self._most, self._on_conflict = task, max_concurrency, on_conflict
        self._key = concurrency_key and CallKey(task, "concurrency_key", concurrency_key, signature)
        self._same = _pack(self._gates((), {})) if self._key is None else b""

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Field q of one call; InvalidArguments if one of its keys cannot be computed."""
        return self._same or _pack(self._gates(args, kwargs))

    def _gates(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Gate]:
        gates: list[Gate] = []
        if self._most is not None:
            key = self._key(args, kwargs) if self._key else ""
            gates.append(concurrency_gate(limit_name(self._task, key), self._most, self._on_conflict))
        return gates


def pack_queue_gates(queues: Mapping[str, QueueOptions]) -> bytes:
    """The gates of queues by name, as a claim takes them; b'' where no queue has any."""
    gates = {queue: gates for queue, options in queues.items() if (gates := _gates_of_queue(queue, options))}
    return _pack(gates) if gates else b""


def _gates_of_queue(queue: str, options: QueueOptions) -> list[Gate]:
    if options.max_concurrency is None:
        return []
    return [concurrency_gate(f"queue:{queue}", options.max_concurrency)]


def gates_in(packed: bytes) -> list[Gate]:
    """What field q of a message says; [] where it cannot be read."""
    try:
        return [tuple(gate) for gate in msgspec.msgpack.decode(packed, type=list[list[Any]])]
    except msgspec.MsgspecError:
        return []
