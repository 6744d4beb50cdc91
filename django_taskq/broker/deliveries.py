"""Deliveries as one worker sees them: claim, settle, compare. Nothing here is repeated by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import redis

from django_taskq.broker import scripts
from django_taskq.broker.connection import Call, run_script
from django_taskq.broker.delivery import Delivery, Lane, Settlement, left_behind
from django_taskq.broker.keys import GROUP, Keys, place_of
from django_taskq.broker.lane import LaneCalls
from django_taskq.core.fields import id_in
from django_taskq.core.gates import queues_with_gates
from django_taskq.core.turns import Turns

CLAIM_MESSAGES = 500
CLAIM_BYTES = 1_048_576
SETTLE_MESSAGES = 500
SETTLE_BYTES = 1_048_576
WAKE_MS = 10_000  # as in broker/lua/lib/wake.lua
MOST_LANES = 10_000  # remembered

# Verdicts of broker/lua/lib/gates.lua that end a task without running it.
INSTEAD = {
    2: "on_conflict: as many calls as max_concurrency allows were running.",
    3: "on_conflict: a newer call has replaced it.",
}


class Claim(NamedTuple):
    """What a claim found. `refused`: this worker was declared dead. `full`: too many outcomes wait for the database."""

    refused: bool = False
    full: bool = False
    time: float = 0.0  # epoch seconds, Redis' clock
    next_due: float | None = None  # epoch seconds
    deliveries: Sequence[Delivery] = ()


class Deliveries:
    """The claiming and settling side of the broker for one worker; connections are the callers' own."""

    def __init__(
        self, keys: Keys, worker: str, queues: Sequence[str], *, ordered: bool, max_outcomes: int,
        weights: Sequence[int] = (), gates: bytes = b"",
    ) -> None:  # fmt: skip
        """`ordered`: queues are served in that order, otherwise in turn; with `weights` by these."""
        self.keys, self.worker, self.queues, self._ordered = keys, worker, list(queues), ordered
        self._calls = LaneCalls(keys)
        self._lanes: dict[bytes, Lane] = {}
        self._first = 0
        self._gates = gates  # of queues, packed
        self._gated = frozenset(queues_with_gates(gates))
        self._turns = Turns(weights) if weights else None
        self._claim_head = (
            keys.index, keys.ready, keys.due, keys.workers, keys.outcomes, keys.recorder, keys.paused, keys.cancels,
        )  # fmt: skip
        self._in_order = lru_cache(maxsize=256)(self._claim_keys)
        self._claim_tail = (str(max_outcomes), keys.lane_prefix)
        self.wake_keys = [keys.queue(queue).wake for queue in queues]

    def claim(self, connection: redis.Connection, most: int, now: float, *, lease_ms: int, awake: bool) -> Claim:
        """Claims up to `most` messages; empty-handed it becomes a sleeper for `lease_ms`. Raises redis-py's errors."""
        if not self._ordered:
            self._first = (self._first + 1) % len(self.queues)
        order = self._turns.order() if self._turns else None
        head, queues = self._in_order(order)
        reply = run_script(
            connection,
            scripts.CLAIM,
            (
                *head, min(most, CLAIM_MESSAGES), CLAIM_BYTES, lease_ms, "0" if awake else "1",
                *self._claim_tail, self._first, self._gates, *queues,
            ),
        )  # fmt: skip
        if reply[0] != 1:
            return Claim(refused=reply[0] == -1, full=reply[0] == -2)
        _, micros, due, groups = reply
        deliveries = []
        for name, losses, verdict, entries in groups:
            lane = self._lane(name)
            for entry, fields in entries:
                deliveries.append(Delivery(lane, entry, fields, losses, verdict == 1, now, INSTEAD.get(verdict, "")))
        if self._turns and order is not None:
            counts = Counter(self.queues.index(delivery.lane.queue) for delivery in deliveries)
            self._turns.took(order, counts)
        return Claim(time=micros / 1e6, next_due=None if due < 0 else due / 1000, deliveries=deliveries)

    def _claim_keys(self, order: Sequence[int] | None) -> tuple[tuple[Any, ...], list[str]]:
        """The keys of a claim that looks at queues in that order, with the worker, and the queues."""
        queues = self.queues if order is None else [self.queues[position] for position in order]
        names = [*self._claim_head, *(name for queue in queues for name in self.keys.queue(queue))]
        return (len(names), *names, self.worker), queues

    def get_up(self, connection: redis.Connection) -> None:
        """This worker sleeps no more. Others look for themselves: it may have been woken for a task, or the only one
        that knew when the next is due. Raises redis-py's errors."""
        commands: list[tuple[Any, ...]] = []
        for sleepers, wake in ((keys.sleepers, keys.wake) for keys in map(self.keys.queue, self.queues)):
            commands += [("ZREM", sleepers, self.worker), ("RPUSH", wake, ""), ("PEXPIRE", wake, WAKE_MS)]
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            connection.read_response()

    def _lane(self, name: bytes) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= MOST_LANES:
                self._lanes.clear()  # shares come and go
            suffix = name.decode().removeprefix(self.keys.lane_prefix)
            lane = self._lanes[name] = Lane(name.decode(), suffix.encode(), *place_of(suffix))
        return lane

    def settle_calls(self, settlements: Iterable[Settlement]) -> list[tuple[Call, list[Settlement]]]:
        """Script calls that settle everything: one per kind and lane, each bounded in messages and bytes."""
        groups: dict[tuple[str, str], list[Settlement]] = {}
        for settlement in settlements:
            groups.setdefault((settlement.script.name, settlement.delivery.lane.name), []).append(settlement)
        calls = []
        for group in groups.values():
            calls += [(self._settle_call(batch), batch) for batch in _bounded(group)]
        return calls

    def _settle_call(self, batch: list[Settlement]) -> Call:
        lane = batch[0].delivery.lane
        arguments: list[Any] = [*self._calls.head(lane.queue, lane.priority, lane.share), self.worker]
        for settlement in batch:
            arguments.append(settlement.delivery.entry)
            arguments += settlement.arguments
        return batch[0].script, arguments

    def stand(self, connection: redis.Connection, settlements: Sequence[Settlement]) -> list[bool]:
        """Whether each was settled just so, by a call whose reply was lost. Raises redis-py's errors.

        An attempt that has gone on since then cannot be told from one that was never settled here.
        """
        keys = self.keys
        head = (2, keys.index, keys.outcomes, keys.lane_prefix, keys.scheduled_prefix)
        found: list[Any] = []
        for batch in _bounded(list(settlements)) if settlements else ():
            found += run_script(connection, scripts.FIND, (*head, *(settlement.arguments[0] for settlement in batch)))
        return [
            bool(reply) and left_behind(settlement, reply) for settlement, reply in zip(settlements, found, strict=True)
        ]

    def is_gated(self, delivery: Delivery) -> bool:
        """Whether a claim decides what is to become of it. Its reply says so, and nothing else does."""
        return delivery.lane.share[:1] == "g" or delivery.lane.queue in self._gated

    def pending(self, connection: redis.Connection) -> list[tuple[Lane, bytes, int]]:
        """What Redis thinks this worker holds: lane, entry, losses. Raises redis-py's errors."""
        names = [self.keys.queue(queue).lanes for queue in self.queues]
        replies = run_script(connection, scripts.PENDING, (len(names), *names, self.worker, 10_000))
        found = []
        for name, *items in replies:
            lane = self._lane(name)
            found += [(lane, entry, deliveries - 1) for entry, deliveries in zip(items[::2], items[1::2], strict=True)]
        return found

    def find(self, connection: redis.Connection, location: bytes, now: float) -> Delivery | None:
        """The delivery at a location, None when its entry is gone. Raises redis-py's errors."""
        entry, _, suffix = location.partition(b" ")
        lane = self._lane(self.keys.lane_prefix.encode() + suffix)
        connection.send_command("XPENDING", lane.name, GROUP, entry, entry, 1)
        try:
            pending = connection.read_response()
        except redis.ResponseError:  # the group is gone
            pending = []
        return self.fetch(connection, lane, entry, pending[0][3] - 1 if pending else 0, now)

    def _cancel_requested(self, connection: redis.Connection, fields: list[bytes]) -> bool:
        connection.send_command("HEXISTS", self.keys.cancels, id_in(fields))
        return bool(connection.read_response())

    def fetch(self, connection: redis.Connection, lane: Lane, entry: bytes, losses: int, now: float) -> Delivery | None:
        """One entry that is pending with this worker; None (and acknowledged) when it was deleted."""
        connection.send_command("XRANGE", lane.name, entry, entry)
        entries = connection.read_response()
        if entries:
            fields = entries[0][1]
            return Delivery(lane, entry, fields, losses, self._cancel_requested(connection, fields), now)
        connection.send_command("XACK", lane.name, GROUP, entry)
        connection.read_response()
        return None


def _bounded(group: list[Settlement]) -> Iterable[list[Settlement]]:
    batch: list[Settlement] = []
    size = 0
    for settlement in group:
        if batch and (len(batch) >= SETTLE_MESSAGES or size + settlement.size > SETTLE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(settlement)
        size += settlement.size
    yield batch
