"""Redis in numbers, for metrics and probes: one pipeline, and a second one for the states of workers and breakers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts
from django_taskq.broker.clock import epoch_seconds
from django_taskq.broker.gates import BreakerState, breaker_commands, breaker_state, paused_tasks
from django_taskq.broker.periodic import Note, notes_by_name
from django_taskq.broker.queues import QueueState, inspection, queue_states, read_states
from django_taskq.exceptions import TaskqError

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

SILENT = 15.0  # seconds without a beat, after which a worker can be declared dead
MOST_WORKERS = 2_000  # whose state is asked for
MOST_NAMES = 500  # breakers that are asked for, the first by name; and paused tasks, and periodic ones


class Beating(NamedTuple):
    """One task process in the register. `state` is its own word, or silent, or dead."""

    state: str
    host: str
    supervisor: int  # its process id
    age: float | None  # seconds since its last beat, None before the first


class Census(NamedTuple):
    """At one moment. `now`: epoch seconds on Redis' clock."""

    now: float
    queues: list[QueueState]
    lag: int  # outcomes that are not in the database yet
    workers: list[Beating]
    paused_tasks: list[str]
    breakers: list[BreakerState]  # those that have ever failed
    periodic: dict[str, Note]  # by name

    def age(self, queue: QueueState) -> float:
        """Seconds since the one that has waited longest is ready; 0 when nothing waits."""
        return 0.0 if queue.oldest is None else max(0.0, self.now - queue.oldest)


def census(connections: Connections, keys: Keys, queues: Iterable[str]) -> Census:
    """Looks; raises BrokerUnavailable or BrokerRefused."""
    names = list(queues)
    commands = [
        ("TIME",),
        ("HGET", keys.recorder, "lingering"),
        ("XLEN", keys.outcomes),
        ("ZRANGE", keys.workers, 0, MOST_WORKERS - 1, "WITHSCORES"),
        ("SMEMBERS", keys.paused),
        ("SMEMBERS", keys.breakers),
        ("HGETALL", keys.periodic),
        ("EVALSHA", scripts.INSPECT.sha, *inspection(keys, names)),
    ]
    try:
        replies = connections.pipeline(commands)
    except TaskqError:
        queue_states(connections, keys, names)  # loads the script, if that is what was missing
        replies = connections.pipeline(commands)
    time, lingering, outcomes, counters, paused, failed, ticks, states = replies
    now = epoch_seconds(time)
    lag = max(0, int(outcomes) - int(lingering or 0))
    breakers = sorted(name.decode("utf-8", "replace") for name in failed)[:MOST_NAMES]
    asked = [*_worker_commands(keys, counters[::2]), *breaker_commands(keys, breakers)]
    hashes = connections.pipeline(asked) if asked else []
    many = len(counters) // 2
    return Census(
        now,
        read_states(keys, names, states),
        lag,
        _workers(now, counters, hashes[:many]),
        paused_tasks(paused)[:MOST_NAMES],
        [breaker_state(name, reply, now) for name, reply in zip(breakers, hashes[many:], strict=True)],
        dict(islice(notes_by_name(ticks).items(), MOST_NAMES)),
    )


def _worker_commands(keys: Keys, workers: Iterable[bytes]) -> list[tuple[str, ...]]:
    fields = ("state", "beat", "started", "host", "supervisor")
    return [("HMGET", keys.worker(worker.decode()), *fields) for worker in workers]


def _workers(now: float, counters: list[bytes], hashes: list[Any]) -> list[Beating]:
    found = []
    for beats, values in zip(counters[1::2], hashes, strict=True):
        state, beat, started, host, supervisor = (value.decode("utf-8", "replace") if value else "" for value in values)
        since = float(beat or started or 0)
        if float(beats) < 0:
            state = "dead"
        elif now - since > SILENT:
            state = "silent"
        age = now - float(beat) if beat else None
        found.append(Beating(state or "starting", host, int(supervisor or 0), age))
    return found
