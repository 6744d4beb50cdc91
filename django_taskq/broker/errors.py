"""What Redis and redis-py raise, as the typed errors of django_taskq."""

from __future__ import annotations

import re

import redis

from django_taskq.exceptions import BrokerFull, BrokerRefused, BrokerUnavailable, TaskqError

# A script's error carries the code in front (7.0 and later) or after a dash in the middle (6.2).
_CODE = re.compile(r"(?:^|-)([A-Z]{3,}) ")
# redis-py takes the code off the text where it has a class for it.
_CODES = {
    redis.exceptions.NoScriptError: "NOSCRIPT",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.MasterDownError: "MASTERDOWN",  # a ClusterDownError too
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",
}
_AWAY = frozenset(
    {
        "NOSCRIPT",  # flushed between loading and running
        "READONLY",
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "MISCONF",
        "NOREPLICAS",
        "NOAUTH",
        "WRONGPASS",
    }
)


def code_of(error: BaseException) -> str:
    """The upper-case code of a Redis error reply, or ''."""
    for known, code in _CODES.items():
        if isinstance(error, known):
            return code
    match = _CODE.search(str(error))
    return match[1] if match else ""


def typed(error: Exception, where: str) -> TaskqError:
    """The error to raise instead of `error`, which the broker at `where` caused."""
    if isinstance(error, TaskqError):
        return error
    code = code_of(error)
    if code == "OOM":
        return BrokerFull(
            f"Redis at {where} is full (maxmemory): it takes no new tasks until workers have drained it. "
            "Raise maxmemory, or start more workers."
        )
    if code == "MOVED":
        owner = str(error).removeprefix("MOVED ")  # slot and address
        return BrokerRefused(
            f"Redis at {where} is a node of a cluster, and another one has the slot of this namespace ({owner}). "
            "Name that one in TASKQ['BROKER']."
        )
    if code in _AWAY or isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)):
        return BrokerUnavailable(f"Redis at {where} cannot be reached: {error}")
    return BrokerRefused(f"Redis at {where} refused a command: {error}")
