"""Put Redis in a state, act, read the state. Nothing here knows what is right; the tests say that.

A test seeds with `Shard.seed_*`, acts through the broker or a `Hand`, and reads with the rest of `Shard`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from django_taskq.broker import Broker, Found, Submission, scripts
from django_taskq.broker.connection import run_script
from django_taskq.broker.deliveries import Claim, Deliveries
from django_taskq.broker.delivery import Delivery, Settlement, bury, complete, refusals, release, retry
from django_taskq.broker.keys import GROUP, Place, index_field
from django_taskq.broker.scripts import Script
from django_taskq.broker.workers import Beat, Workers
from django_taskq.core.activity import activity
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, encode_outcome

SETTLED = None  # what Hand's settling methods say of a delivery that was settled
HOUR = 3_600_000  # ms


def message(task: str = "t", **values: Any) -> Message:
    return Message(values.pop("id", None) or new_id(), task, **values)


def outcome_for(id: bytes, status: str = "succeeded", run: int = 1, **values: Any) -> bytes:
    return encode_outcome(Outcome(id, run, status, True, **values))


def id_of(delivery: Delivery) -> bytes:
    return dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=True))[b"i"]


class Shard:
    """One namespace in one Redis."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.keys = broker, broker.keys
        self.workers = Workers(broker.connections, broker.keys)
        self.redis = broker.connections.execute

    # --- seed ---------------------------------------------------------------------------------------------------------

    def seed_waiting(self, count: int = 1, queue: str = "default", **values: Any) -> list[bytes]:
        """Sends so many messages and returns their ids."""
        return self.send([Submission(message(**values), queue) for _ in range(count)])

    def seed_scheduled(self, count: int = 1, queue: str = "default", delay: int = HOUR, **values: Any) -> list[bytes]:
        return self.send([Submission(message(**values), queue, delay=delay) for _ in range(count)])

    def seed_bare(self, *fields: bytes | str, queue: str = "default", priority: int = 0) -> bytes:
        """What another producer may do: XADD and nothing else. Returns the entry's id."""
        entry: bytes = self.redis("XADD", self.keys.lane(queue, priority), "*", *fields)
        return entry

    def seed_ended(self, hand: Hand, count: int = 1, status: str = "succeeded", **values: Any) -> list[bytes]:
        """Tasks that `hand` has run to their end."""
        ids = self.seed_waiting(count, **values)
        hand.settle_all(hand.claim(count), status)
        return ids

    def send(self, submissions: Sequence[Submission]) -> list[bytes]:
        return [accepted.id for accepted in self.broker.enqueue(submissions)]

    def pass_time(self, ms: int = 2 * HOUR) -> None:
        """As if so much time had gone by for what is scheduled."""
        for name in self.names("scheduled:*"):
            if self.redis("TYPE", name) == b"zset":
                for id, due in self.zset(name).items():
                    self.redis("ZADD", name, due - ms, id)
        for queue, due in self.zset(self.keys.due).items():
            self.redis("ZADD", self.keys.due, due - ms, queue)

    def fill_memory(self) -> None:
        """From here on Redis is over its maxmemory."""
        self.redis("CONFIG", "SET", "maxmemory", "1")

    def empty_memory(self) -> None:
        self.redis("CONFIG", "SET", "maxmemory", "0")

    # --- read ---------------------------------------------------------------------------------------------------------

    def find(self, id: bytes) -> Found:
        return self.broker.find([id])[0]

    def states(self, ids: Iterable[bytes]) -> list[str | None]:
        return [found.state for found in self.broker.find(list(ids))]

    def location(self, id: bytes) -> bytes | None:
        place: bytes | None = self.redis("HGET", self.keys.index, index_field(id))
        return place + b" default:0" if place and re.fullmatch(rb"\d+-\d+", place) else place

    def index(self) -> dict[bytes, bytes]:
        return self.hash(self.keys.index)

    def lane(
        self, queue: str = "default", priority: int = 0, share: str = ""
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The entries of a lane with their fields."""
        return self.stream(self.keys.lane(queue, priority, share))

    def pending(self, queue: str = "default", priority: int = 0) -> dict[bytes, tuple[bytes, int]]:
        """Entry -> who holds it and how often it was delivered."""
        return self.pending_of_lanes([Place(queue, priority)])[0]

    def pending_of_lanes(self, lanes: Iterable[Place]) -> list[dict[bytes, tuple[bytes, int]]]:
        """`pending` of each, in one round trip; empty where lane or group is missing."""
        replies = self.pipeline([("XPENDING", self.keys.lane(*lane), GROUP, "-", "+", 100_000) for lane in lanes])
        return [
            {} if isinstance(items, Exception) else {entry: (consumer, count) for entry, consumer, _, count in items}
            for items in replies
        ]

    def lanes(self, queue: str = "default") -> dict[bytes, int]:
        """Listed lanes and their priorities."""
        return {name: int(score) for name, score in self.zset(self.keys.queue(queue).lanes).items()}

    def ready(self) -> set[bytes]:
        return set(self.redis("SMEMBERS", self.keys.ready))

    def due(self) -> dict[bytes, int]:
        return self.zset(self.keys.due)

    def scheduled(self, queue: str = "default") -> dict[bytes, int]:
        """Id -> due time in ms."""
        return self.zset(self.keys.queue(queue).scheduled)

    def outcomes(self) -> list[Outcome]:
        return [outcome for _, outcome in self.broker.read_outcomes("0-0", 1_000_000) if outcome is not None]

    def ended(self) -> list[tuple[bytes, str]]:
        return [(outcome.id, outcome.status) for outcome in self.outcomes()]

    def totals(self) -> dict[str, int]:
        return {name.decode(): int(count) for name, count in self.hash(self.keys.totals).items()}

    def tokens(self, queue: str = "default") -> int:
        return int(self.redis("LLEN", self.keys.queue(queue).wake))

    def take_token(self, queue: str = "default") -> bool:
        """What a sleeper's BLPOP does."""
        return self.redis("LPOP", self.keys.queue(queue).wake) is not None

    def sleepers(self, queue: str = "default") -> set[bytes]:
        return set(self.zset(self.keys.queue(queue).sleepers))

    def owner(self, key: str, task: str = "t") -> bytes | None:
        """The id that an idempotency key stands for."""
        return self.redis("GET", self.keys.idempotency(task, key))  # type: ignore[no-any-return]

    def key_ttl(self, key: str, task: str = "t") -> int:
        """Milliseconds; -1 without an end, -2 without a key."""
        return int(self.redis("PTTL", self.keys.idempotency(task, key)))

    def names(self, pattern: str = "*") -> list[str]:
        """The keys of the namespace, in full; without those of statistics, which hold no task."""
        names = (name.decode() for name in self.redis("KEYS", f"{self.keys.tag}:{pattern}"))
        return sorted(name for name in names if not name.startswith(self.keys.stats_prefix))

    def contents(self) -> dict[str, Any]:
        """All there is, for comparing before and after."""
        names = self.names()
        kinds = self.pipeline([("TYPE", name) for name in names])
        read = {
            b"stream": (("XRANGE", "-", "+"), _entries),
            b"zset": (("ZRANGE", "0", "-1", "WITHSCORES"), _scores),
            b"hash": (("HGETALL",), _pairs),
            b"set": (("SMEMBERS",), set),
            b"list": (("LRANGE", "0", "-1"), list),
            b"string": (("GET",), bytes),
        }
        commands = [(read[kind][0][0], name, *read[kind][0][1:]) for name, kind in zip(names, kinds, strict=True)]
        replies = zip(names, kinds, self.pipeline(commands), strict=True)
        return {name: read[kind][1](reply) for name, kind, reply in replies}  # type: ignore[operator]

    def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Several commands in one round trip: a reply or a ResponseError for each."""
        if not commands:
            return []
        connection = self.broker.connections._take()
        connection.send_packed_command(connection.pack_commands(commands))
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
        self.broker.connections._idle.append(connection)
        return replies

    def stream(self, name: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return _entries(self.redis("XRANGE", name, "-", "+"))

    def zset(self, name: str) -> dict[bytes, int]:
        return _scores(self.redis("ZRANGE", name, 0, -1, "WITHSCORES"))

    def hash(self, name: str) -> dict[bytes, bytes]:
        return _pairs(self.redis("HGETALL", name))


def _entries(reply: list[Any]) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(entry, _pairs(fields)) for entry, fields in reply]


def _scores(flat: list[bytes]) -> dict[bytes, int]:
    return {member: int(float(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)}


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Hand:
    """A worker driven by hand: claims and settles when it is told to, over a connection of its own."""

    def __init__(
        self, shard: Shard, name: str = "w1", queues: Sequence[str] = ("default", "mail"), *, ordered: bool = True,
        max_outcomes: int = 1_000_000, registered: bool = True, weights: Sequence[int] = (), gates: bytes = b"",
    ) -> None:  # fmt: skip
        self.shard, self.name = shard, name
        self.deliveries = Deliveries(
            shard.keys, name, queues, ordered=ordered, max_outcomes=max_outcomes, weights=weights, gates=gates
        )
        self.connection = shard.broker.connections.open()
        if registered:
            shard.workers.register(name, {"running": ""})

    def ask(self, most: int = 500, *, lease_ms: int = 0, awake: bool = True) -> Claim:
        """The whole answer of a claim."""
        return self.deliveries.claim(self.connection, most, 0.0, lease_ms=lease_ms, awake=awake)

    def claim(self, most: int = 500) -> list[Delivery]:
        """A claim without sleeping."""
        return list(self.ask(most).deliveries)

    def sleep(self, lease_ms: int = 5000) -> Claim:
        """An empty-handed claim: the worker is a sleeper from now on."""
        claim = self.ask(lease_ms=lease_ms)
        assert not claim.deliveries
        return claim

    def settle(self, settlements: Sequence[Settlement]) -> list[int | None]:
        """SETTLED or the code, for each."""
        codes: dict[int, int | None] = {}
        for (script, arguments), batch in self.deliveries.settle_calls(settlements):
            refused = refusals(batch[0], self.run(script, arguments))
            for position, settlement in enumerate(batch):
                codes[id(settlement)] = refused.get(position, SETTLED)
        return [codes[id(settlement)] for settlement in settlements]

    def run(self, script: Script, arguments: Sequence[Any]) -> Any:
        return run_script(self.connection, script, arguments)

    def settle_all(self, deliveries: Sequence[Delivery], status: str = "succeeded") -> None:
        """All of them end in that state."""
        make = self.burying if status == "failed" else self.completing
        more: dict[str, Any] = {} if status == "failed" else {"status": status}
        assert set(self.settle([make(delivery, **more) for delivery in deliveries])) <= {SETTLED}

    # One settlement each; `completing` and so on make them, `complete` and so on send them.

    def completing(
        self, delivery: Delivery, status: str = "succeeded", key: str = "", ttl: int = 0, **values: Any
    ) -> Settlement:
        id = values.pop("id", None) or id_of(delivery)
        outcome = outcome_for(id, status, **values)
        return complete(delivery, id, status, outcome, activity(status, "t", 0.01, 0.02), self._key(key), ttl)

    def burying(self, delivery: Delivery, reason: str = "failed", key: str = "", **values: Any) -> Settlement:
        id = values.pop("id", None) or id_of(delivery)
        outcome = outcome_for(id, "failed", reason=reason, **values)
        return bury(delivery, id, reason, outcome, activity("failed", "t", 0.01, 0.02), self._key(key))

    def retrying(self, delivery: Delivery, seconds: float = 60.0, **values: Any) -> Settlement:
        again = Message.decode(delivery.fields)
        again.attempt += 1
        for name, value in values.items():
            setattr(again, name, value)
        return retry(delivery, again.id, seconds, again.fields(), activity("retried", "t", 0.01, 0.02))

    def complete(self, delivery: Delivery, *arguments: Any, **values: Any) -> int | None:
        return self.settle([self.completing(delivery, *arguments, **values)])[0]

    def bury(self, delivery: Delivery, *arguments: Any, **values: Any) -> int | None:
        return self.settle([self.burying(delivery, *arguments, **values)])[0]

    def retry(self, delivery: Delivery, *arguments: Any, **values: Any) -> int | None:
        return self.settle([self.retrying(delivery, *arguments, **values)])[0]

    def release(self, *deliveries: Delivery) -> int:
        """How many went back."""
        calls = self.deliveries.settle_calls([release(delivery) for delivery in deliveries])
        return sum(self.run(*call) for call, _ in calls)

    def beat(self, **fields: str) -> list[str] | None:
        return self.shard.workers.beat([Beat(self.name, fields)])[self.name]

    def die(self, running: Iterable[Delivery] | None = ()) -> int:
        """Declared dead while it ran those (None: those of its last beat), and reclaimed; how many deliveries."""
        locations = None if running is None else [delivery.location for delivery in running]
        assert self.shard.workers.declare_dead(self.name, None, locations)
        return self.shard.workers.reclaim(self.name)

    def _key(self, key: str) -> str:
        return self.shard.keys.idempotency("t", key) if key else ""


def send_twice(shard: Shard, script: Script, arguments: Sequence[Any]) -> tuple[Any, Any]:
    """A call whose first reply was lost: both replies."""
    return shard.broker.connections.run(script, arguments), shard.broker.connections.run(script, arguments)


__all__ = ["HOUR", "SETTLED", "Hand", "Shard", "id_of", "message", "outcome_for", "scripts", "send_twice"]
