"""What Redis says when it refuses, in the words of every version, as typed errors."""

from __future__ import annotations

import pytest
import redis
from redis._parsers.base import BaseParser

from django_taskq.broker.errors import code_of, typed
from django_taskq.exceptions import BrokerFull, BrokerRefused, BrokerUnavailable, QueueFull, TaskqError

IN_SCRIPT = "Error running script (call to f_0123456789abcdef): @user_script:30: @user_script: 30: "
FULL = "command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    ("reply", "code", "kind"),
    [
        (f"OOM {FULL}", "OOM", BrokerFull),
        (f"OOM {FULL} script: 0123456789abcdef, on @user_script:30.", "OOM", BrokerFull),
        (f"ERR {IN_SCRIPT}-OOM {FULL}", "OOM", BrokerFull),
        ("READONLY You can't write against a read only replica.", "READONLY", BrokerUnavailable),
        (f"ERR {IN_SCRIPT}-READONLY You can't write against a read only replica.", "READONLY", BrokerUnavailable),
        ("LOADING Redis is loading the dataset in memory", "", BrokerUnavailable),
        (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "BUSY",
            BrokerUnavailable,
        ),
        (
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "MASTERDOWN",
            BrokerUnavailable,
        ),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", BrokerUnavailable),
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.",
            "MISCONF",
            BrokerUnavailable,
        ),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", BrokerUnavailable),
        ("MOVED 984 127.0.0.1:7001", "MOVED", BrokerRefused),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", BrokerUnavailable),
        ("NOAUTH Authentication required.", "", BrokerUnavailable),
        ("WRONGPASS invalid username-password pair or user is disabled.", "", BrokerUnavailable),
        ("ERR max number of clients reached", "", BrokerUnavailable),
        ("NOPERM User app has no permissions to run the 'evalsha' command", "NOPERM", BrokerRefused),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE", BrokerRefused),
        ("ERR unknown command 'EVALSHA'", "", BrokerRefused),
        ("NOSCRIPT No matching script.", "NOSCRIPT", BrokerUnavailable),
        ("CROSSSLOT Keys in request don't hash to the same slot", "", BrokerRefused),
    ],
)
def test_a_reply_is_away_full_or_refused(reply: str, code: str, kind: type[TaskqError]) -> None:
    error = BaseParser.parse_error(reply)
    assert code_of(error) == code
    found = typed(error, "redis://here")
    assert type(found) is kind
    assert "redis://here" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("reset"),
        redis.exceptions.TimeoutError("slow"),
        ConnectionResetError(),
        OSError(24, "files"),
    ],
)
def test_what_breaks_a_connection_is_away(error: Exception) -> None:
    assert type(typed(error, "redis://here")) is BrokerUnavailable


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = QueueFull()
    assert typed(error, "redis://here") is error
