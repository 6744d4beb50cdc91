"""Gates: what decides at the claim whether a message may be handed over. Packed for broker/lua/lib/gates.lua.

A task's gates travel with each of its messages in field q, a queue's with each claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from inspect import Signature
from typing import Any

import msgspec

from django_taskq.core.call_key import CallKey, KeySource
from django_taskq.queue_options import QueueOptions
from django_taskq.rates import Rate

Gate = tuple[Any, ...]  # its kind, then what the scripts of that kind read

WAIT, DISCARD, REPLACE, REFUSE = "wait", "discard", "replace", "refuse"
ON_CONFLICT = (WAIT, DISCARD, REPLACE)

_pack = msgspec.msgpack.Encoder().encode


def limit_name(task: str, key: str = "") -> str:
    """What a limit of a task, or of one key of a task, is called in Redis."""
    return f"task:{task}{key and ':'}{key}"


def concurrency_gate(limit: str, most: int, on_conflict: str = WAIT) -> Gate:
    """At most so many deliveries at once."""
    return ("c", limit, most, on_conflict)


def rate_gate(limit: str, rate: Rate, burst: int, *, refuse: bool = False) -> Gate:
    """At most so many starts in so much time, `burst` of them at once; `refuse`: what exceeds it is not sent at all."""
    if refuse:
        interval = math.ceil(rate.seconds * 1e6 / rate.count)
        return ("R", limit, interval, interval * (burst - 1))
    return ("r", limit, rate.interval, rate.interval * (burst - 1), rate.tolerance)


def breaker_gate(name: str, cooldown: int) -> Gate:
    """Waits while the circuit breaker is open; `cooldown` is ms."""
    return ("b", name, cooldown)


class TaskGates:
    """The gates of one task's calls."""

    def __init__(
        self, task: str, signature: Signature, *, max_concurrency: int | None = None,
        concurrency_key: KeySource | None = None, on_conflict: str = WAIT, rate_limit: Rate | None = None,
        rate_limit_key: KeySource | None = None, rate_limit_burst: int | None = None, rate_limit_mode: str = WAIT,
        breaker: tuple[str, int] | None = None,
    ) -> None:  # fmt: skip
        """`breaker`: its name and cooldown in ms. Raises InvalidTask for a key that the signature cannot give."""
        self._task, self._most, self._on_conflict = task, max_concurrency, on_conflict
        self._key = concurrency_key and CallKey(task, "concurrency_key", concurrency_key, signature)
        self._rate, self._refuse = rate_limit, rate_limit_mode == REFUSE
        self._rate_key = rate_limit_key and CallKey(task, "rate_limit_key", rate_limit_key, signature)
        self._burst = rate_limit_burst or (rate_limit.count if rate_limit and self._refuse else 1)
        self._breaker = breaker
        self._same = b"" if self._key or self._rate_key else _pack(self._gates((), {}))

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Field q of one call; InvalidArguments if one of its keys cannot be computed."""
        return self._same or _pack(self._gates(args, kwargs))

    def _gates(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Gate]:
        gates: list[Gate] = []
        if self._most is not None:
            key = self._key(args, kwargs) if self._key else ""
            gates.append(concurrency_gate(limit_name(self._task, key), self._most, self._on_conflict))
        if self._rate is not None:
            limit = limit_name(self._task, self._rate_key(args, kwargs) if self._rate_key else "")
            gates.append(rate_gate(limit, self._rate, self._burst, refuse=self._refuse))
        if self._breaker is not None:
            gates.append(breaker_gate(*self._breaker))
        return gates


def pack_queue_gates(queues: Mapping[str, QueueOptions]) -> bytes:
    """The gates of queues by name, as a claim takes them; b'' where no queue has any."""
    gates = {queue: gates for queue, options in queues.items() if (gates := gates_of_queue(queue, options))}
    return _pack(gates) if gates else b""


def declared_numbers(limit: str, max_concurrency: int | None, rate: Rate | None, burst: int) -> dict[str, str]:
    """What a worker declares of a limit, by its kind: places, and what a rate's gate says; 0 where there is none."""
    numbers = rate_gate(limit, rate, burst)[2:] if rate else (0, 0, 0)
    return {f"c:{limit}": str(max_concurrency or 0), f"r:{limit}": " ".join(map(str, numbers))}


def queues_with_gates(packed: bytes) -> list[str]:
    """The names in what `pack_queue_gates` made."""
    return list(msgspec.msgpack.decode(packed, type=dict[str, Any])) if packed else []


def gates_of_queue(queue: str, options: QueueOptions) -> list[Gate]:
    """Those of all its messages, which a worker's settings give it."""
    gates: list[Gate] = []
    if options.max_concurrency is not None:
        gates.append(concurrency_gate(f"queue:{queue}", options.max_concurrency))
    if options.rate_limit is not None:
        gates.append(rate_gate(f"queue:{queue}", options.rate_limit, 1))
    return gates


def gates_in(packed: bytes) -> list[Gate]:
    """What field q of a message says; [] where it cannot be read."""
    try:
        return [tuple(gate) for gate in msgspec.msgpack.decode(packed, type=list[list[Any]])]
    except msgspec.MsgspecError:
        return []
