"""Passwords that change while everything is connected: nobody who sends or waits notices."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.exceptions import BrokerUnavailable
from tests.sampleapp.tasks import add, async_sleep, sleep
from tests.servers import RedisServer, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

pytestmark = pytest.mark.services


class Vault:
    """The user `shop` of one server, and the file in which its password is kept."""

    def __init__(self, server: RedisServer, path: Path) -> None:
        self.server, self.path, self.asked = server, path, 0

    def user(self, *rules: str) -> None:
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", "shop", *rules)

    def write(self, password: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"{password}\n")
        new.replace(self.path)

    def read(self) -> str:
        self.asked += 1
        return self.path.read_text().strip()

    def drop(self) -> int:
        """Closes the user's connections; how many."""
        with self.server.client() as client:
            return int(client.execute_command("CLIENT", "KILL", "USER", "shop"))


@pytest.fixture
def vault(start_redis: Callable[..., RedisServer], tmp_path: Path) -> Vault:
    vault = Vault(start_redis(binary="redis-server"), tmp_path / "password")
    vault.user("reset", "on", ">first", "~*", "&*", "+@all")
    vault.write("first")
    return vault


@pytest.fixture
def running(vault: Vault, settings: SettingsWrapper, worker: StartWorker) -> None:
    """This process asks a callable for the password, its worker the file."""
    broker = {"BROKER": vault.server.tcp_url, "BROKER_USER": "shop"}
    process = worker(taskq={**broker, "BROKER_PASSWORD": f"file:{vault.path}"}, wait=False)
    settings.TASKQ = {**settings.TASKQ, **broker, "BROKER_PASSWORD": vault.read}
    with vault.server.client() as client:
        wait_for(lambda: client.zcard("{taskq}:workers"), 20, process.output)


class Sender:
    """A thread that sends all the time."""

    def __init__(self) -> None:
        self.handles: list[TaskHandle[int]] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            try:
                self.handles.append(add.delay(0, len(self.handles)))
            except Exception as error:
                self.errors.append(error)

    def wait(self, count: int = 20) -> None:
        """Until so many more are sent."""
        before = len(self.handles)
        wait_for(lambda: self.errors or len(self.handles) > before + count, 15)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """No error, and everything that was sent has run."""
        self.stop()
        assert self.errors == []
        assert [handle.get(timeout=10) for handle in self.handles[-100:]] == list(range(len(self.handles)))[-100:]


@pytest.fixture
def sender(running: None) -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.stop()


def rotate(vault: Vault) -> None:
    """As docs/deployment.md says."""
    vault.user(">second")
    vault.write("second")
    vault.user("<first")


def test_a_rotation_reaches_nobody_who_sends(vault: Vault, sender: Sender) -> None:
    slow = sleep.delay(1.5)  # running, while its worker's connections are closed
    sender.wait()
    rotate(vault)
    for _ in range(5):
        assert vault.drop() >= 1
        sender.wait()
    sender.check()
    assert slow.get(timeout=10) == 1.5
    assert vault.asked > 5
    old = redis.Redis.from_url(vault.server.tcp_url, username="shop", password="first")
    with old, pytest.raises(redis.AuthenticationError):
        old.ping()


def test_without_dropped_connections_nothing_is_asked_again(vault: Vault, running: None) -> None:
    add.delay(1, 2).get(timeout=10)
    asked = vault.asked
    rotate(vault)
    assert [add.delay(1, n) for n in range(5)]
    assert vault.asked == asked


def test_who_waits_for_a_result_goes_on_waiting(vault: Vault, running: None) -> None:
    handle = sleep.delay(1.5)
    timer = threading.Timer(0.5, lambda: (rotate(vault), vault.drop()))
    timer.start()
    assert handle.get(timeout=10) == 1.5
    timer.join()


@pytest.mark.parametrize("times", [1, 5])
def test_who_waits_in_an_event_loop_goes_on_waiting(vault: Vault, running: None, times: int) -> None:
    async def waiting() -> float:
        handle = await async_sleep.adelay(1.0)
        result = asyncio.create_task(handle.aget(timeout=10))
        for _ in range(times):
            await asyncio.sleep(0.1)
            vault.drop()
        return await result

    assert asyncio.run(waiting()) == 1.0


def test_the_old_one_removed_too_early_delays_and_loses_nothing(vault: Vault, sender: Sender) -> None:
    sender.wait()
    vault.user(">second", "<first")
    vault.drop()
    before = len(sender.handles)
    time.sleep(1.0)
    assert len(sender.handles) <= before + 1  # it is trying
    vault.write("second")
    sender.wait()
    sender.check()


def test_a_password_that_never_comes_is_an_error_at_last(
    vault: Vault, running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.5)
    vault.user("resetpass", ">second")
    vault.drop()
    with pytest.raises(BrokerUnavailable, match="invalid username-password pair") as raised:
        add.delay(1, 2)
    assert "first" not in str(raised.value)
    assert get_broker().connections.location.display in str(raised.value)
