"""Redis behind Sentinel, and in a cluster, by Debian's redis-server: what docs/deployment.md says of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_taskq.broker import get_broker
from django_taskq.exceptions import BrokerRefused
from tests.broker.helpers import Hand, Shard
from tests.sampleapp.tasks import add, sleep
from tests.servers import Process, RedisServer, free_port, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

pytestmark = pytest.mark.services


class Sentinel:
    """One sentinel over a primary and a replica of its own."""

    def __init__(self, directory: Path, primary: RedisServer, replica: RedisServer) -> None:
        self.port, self.replica = free_port(), replica
        host, port = address_of(primary)
        with replica.client() as client:
            client.replicaof(host, port)
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", 20)
        (directory / "sentinel.conf").write_text(
            f"port {self.port}\nsentinel monitor queue {host} {port} 1\n"
            "sentinel down-after-milliseconds queue 500\nsentinel failover-timeout queue 3000\n"
        )
        command = ["redis-server", str(directory / "sentinel.conf"), "--sentinel"]
        self.process = Process(command, directory / "sentinel.log")
        self.process.wait_for_output("+slave", 20)


def address_of(server: RedisServer) -> tuple[str, int]:
    host, port = server.tcp_url.removeprefix("redis://").split("/")[0].split(":")
    return host, int(port)


@pytest.fixture
def primary(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis(binary="redis-server")


@pytest.fixture
def sentinel(start_redis: Callable[..., RedisServer], primary: RedisServer, tmp_path: Path) -> Iterator[Sentinel]:
    sentinel = Sentinel(tmp_path, primary, start_redis(binary="redis-server"))
    yield sentinel
    sentinel.process.close()


def test_a_failover_by_sentinel_takes_the_queue_along(
    sentinel: Sentinel,
    primary: RedisServer,
    worker: StartWorker,
    settings: SettingsWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENTINEL_PORT", str(sentinel.port))
    of_sentinel = importlib.reload(importlib.import_module("tests.services.sentinel_settings"))
    settings.CACHES = of_sentinel.CACHES
    settings.TASKQ = {**settings.TASKQ, "BROKER": "queue"}
    process = worker(
        "--threads", "2", wait=False,
        env={"DJANGO_SETTINGS_MODULE": of_sentinel.__name__, "SENTINEL_PORT": str(sentinel.port)},
    )  # fmt: skip
    assert add.delay(1, 2).get(timeout=20) == 3
    later = add.using(run_after=8).delay(3, 4)
    running = sleep.delay(3.0)
    with sentinel.replica.client() as client:
        wait_for(lambda: client.hlen("{taskq}:index") >= 2)
        wait_for(lambda: running.refresh() or running.status == "running")
        primary.kill()
        sent = add.delay(5, 6)  # it waits for the other one
        assert client.info("replication")["role"] == "master"
    assert (sent.get(timeout=20), running.get(timeout=20), later.get(timeout=20)) == (11, 3.0, 7)
    assert process.terminate(30) == 0


def test_in_a_cluster_the_node_that_has_the_slot_is_the_queue_s_and_others_refuse(
    start_redis: Callable[..., RedisServer], settings: SettingsWrapper
) -> None:
    ours, other = (
        start_redis(binary="redis-server", config={"cluster-enabled": "yes", "cluster-port": str(free_port())})
        for _ in range(2)
    )
    with ours.client() as client, other.client() as neighbour:
        slot = client.execute_command("CLUSTER", "KEYSLOT", "{taskq}:index")
        client.execute_command("CLUSTER", "ADDSLOTS", slot)
        neighbour.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slot - 1, slot + 1, 16383)
        client.execute_command("CLUSTER", "MEET", *address_of(other), other.config["cluster-port"])
        for node in (client, neighbour):
            wait_for(lambda node=node: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")), 20)
        settings.TASKQ = {**settings.TASKQ, "BROKER": ours.tcp_url}
        add.delay(1, 2)
        assert len(Hand(Shard(get_broker())).claim()) == 1
        settings.TASKQ = {**settings.TASKQ, "BROKER": other.tcp_url}
        with pytest.raises(BrokerRefused, match=rf"another one has .* \({slot} 127.0.0.1:{address_of(ours)[1]}\)"):
            add.delay(1, 2)
