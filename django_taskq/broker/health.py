"""What is wrong with a Redis as a broker: settings under which tasks get lost, an old version, a clock far off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.broker.clock import epoch_seconds
from django_taskq.exceptions import BrokerRefused

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections

OLDEST = (6, 2)
MOST_SKEW = 5.0  # seconds
OUTCOME_BYTES = 600  # of Redis memory, for one outcome with its index entry; measured with 100 bytes of arguments
DEFAULT_MAX_OUTCOMES = 1_000_000


class Problem(NamedTuple):
    """`id` follows `django_taskq.` in system checks."""

    id: str
    text: str
    hint: str


class Health(NamedTuple):
    """A server at one moment. Sizes are bytes; `maxmemory` 0: no limit. `problems`: as system checks find them."""

    server: str  # redis, valkey
    version: str
    policy: str  # maxmemory-policy
    maxmemory: int
    memory: int
    evicted: int  # keys, since the server started
    append_only: bool
    snapshots: bool
    clients: int
    started: float  # epoch seconds
    problems: list[Problem]


def health_of(connections: Connections) -> Health:
    """Looks at the server; raises BrokerUnavailable."""
    info = _info(connections)
    return Health(
        server=info.get("server_name", "redis"), version=info.get("valkey_version") or info.get("redis_version", ""),
        policy=info.get("maxmemory_policy", ""), maxmemory=int(info.get("maxmemory", 0)),
        memory=int(info.get("used_memory", 0)), evicted=int(info.get("evicted_keys", 0)),
        append_only=info.get("aof_enabled") == "1", snapshots=_snapshots(connections),
        clients=int(info.get("connected_clients", 0)), started=time.time() - int(info.get("uptime_in_seconds", 0)),
        problems=problems_of(connections),
    )  # fmt: skip


def problems_of(connections: Connections) -> list[Problem]:
    """Looks at the server; raises BrokerUnavailable."""
    info, found = _info(connections), []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            Problem("W101", f"Redis evicts keys when memory is full (maxmemory-policy {policy}): tasks get lost.",
                    "Set maxmemory-policy noeviction.")
        )  # fmt: skip
    if info.get("aof_enabled") == "0" and not _snapshots(connections):
        found.append(
            Problem("W102", "Redis keeps nothing on disk: a restart loses every task.",
                    "Set appendonly yes and appendfsync everysec.")
        )  # fmt: skip
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        found.append(Problem("W103", f"Redis {version} is too old.", "Use Redis 6.2 or later, or Valkey 8 or later."))
    skew = abs(epoch_seconds(connections.execute("TIME")) - time.time())
    if skew > MOST_SKEW:
        found.append(
            Problem("W104", f"The clocks of Redis and of this machine differ by {skew:.0f} s.",
                    "Synchronise them: run_after and expires given as a datetime are judged by Redis' clock.")
        )  # fmt: skip
    return found


def default_max_outcomes(connections: Connections) -> int:
    """MAX_OUTCOMES where it is not set: a million, or what a quarter of maxmemory holds. Raises BrokerUnavailable."""
    maxmemory = int(_info(connections).get("maxmemory", 0))
    return min(DEFAULT_MAX_OUTCOMES, maxmemory // 4 // OUTCOME_BYTES) if maxmemory else DEFAULT_MAX_OUTCOMES


def _info(connections: Connections) -> dict[str, str]:
    lines = connections.execute("INFO").decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _snapshots(connections: Connections) -> bool:
    """Whether Redis saves RDB files by itself; True where it does not say."""
    try:
        reply = connections.execute("CONFIG", "GET", "save")
    except BrokerRefused:
        return True  # the user may not ask; managed services keep their own backups
    return not reply or bool(reply[1])
