"""What the worker says at its start, and `check --deploy`, about the Redis it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from django_taskq import checks
from django_taskq.broker import Broker, health
from django_taskq.conf import get_settings
from tests.servers import RedisServer

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from django_taskq.broker.connection import Connections

StartRedis = Callable[..., RedisServer]


def connections_to(server: RedisServer) -> Connections:
    return Broker.from_settings(replace(get_settings(), broker=server.url)).connections


def ids(server: RedisServer) -> set[str]:
    return {problem.id for problem in health.problems_of(connections_to(server))}


def test_a_server_that_keeps_what_it_is_given_has_no_problems(start_redis: StartRedis) -> None:
    assert ids(start_redis(config={"appendonly": "yes"})) == set()


def test_an_eviction_policy_is_named(start_redis: StartRedis) -> None:
    server = start_redis(config={"appendonly": "yes", "maxmemory-policy": "allkeys-lru"})
    problems = health.problems_of(connections_to(server))
    assert [problem.id for problem in problems] == ["W101"]
    assert "allkeys-lru" in problems[0].text


def test_a_server_without_persistence_is_named(start_redis: StartRedis) -> None:
    assert ids(start_redis(config={"appendonly": "no", "save": ""})) == {"W102"}


def test_snapshots_count_as_persistence(start_redis: StartRedis) -> None:
    server = start_redis(config={"appendonly": "no"})
    with server.client() as client:
        client.config_set("save", "3600 1")  # Redis 6.2 does not take it as one argument of its command line
    assert ids(server) == set()


def test_a_clock_far_off_is_named(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_redis(config={"appendonly": "yes"})
    now = health.time.time()
    monkeypatch.setattr(health.time, "time", lambda: now + 3600)
    assert ids(server) == {"W104"}


@pytest.mark.parametrize(("version", "found"), [("6.0.16", {"W103"}), ("6.2.0", set()), ("10.1", set())])
def test_versions_before_6_2_are_too_old(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch, version: str, found: set[str]
) -> None:
    real = health._info
    monkeypatch.setattr(health, "_info", lambda connections: {**real(connections), "redis_version": version})
    assert ids(start_redis(config={"appendonly": "yes"})) == found


def test_unrecorded_outcomes_may_use_a_quarter_of_the_memory(start_redis: StartRedis) -> None:
    bounded = connections_to(start_redis(config={"maxmemory": "60000000"}))
    assert health.default_max_outcomes(bounded) == 60_000_000 // 4 // health.OUTCOME_BYTES
    assert health.default_max_outcomes(connections_to(start_redis())) == health.DEFAULT_MAX_OUTCOMES


def test_check_deploy_says_so(start_redis: StartRedis, settings: SettingsWrapper) -> None:
    server = start_redis(config={"appendonly": "yes", "maxmemory-policy": "volatile-ttl"})
    settings.TASKQ = {"BROKER": server.url}
    assert [message.id for message in checks.check_deployment()] == ["django_taskq.W101"]
    server.stop()
    assert [message.id for message in checks.check_deployment()] == ["django_taskq.W100"]


def test_the_state_of_a_server_in_figures(start_redis: StartRedis) -> None:
    server = start_redis(config={"appendonly": "yes", "maxmemory": "50mb", "maxmemory-policy": "noeviction"})
    found = health.health_of(connections_to(server))
    assert found.version[0].isdigit()
    assert found.server in {"redis", "valkey"}
    assert (found.maxmemory, found.policy, found.append_only) == (50 * 2**20, "noeviction", True)
    assert 0 < found.memory < found.maxmemory
    assert found.evicted == 0
    assert found.clients >= 1
    assert found.problems == []
