"""When a relay looks: at a nudge, every few seconds, and again after whatever went wrong; and it ends when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections

from django_taskq import outbox
from django_taskq.broker import Broker
from django_taskq.models import OutboxEntry
from django_taskq.relay import Relay
from django_taskq.worker import relays as module
from django_taskq.worker.relays import RelayService
from tests.outbox.conftest import waiting
from tests.outbox.tasks import add
from tests.servers import RedisServer, wait_for

Stop = Callable[[], None]
Serve = Callable[[], Stop]


@pytest.fixture
def serve(outbox_broker: Broker) -> Iterator[Serve]:
    """Starts a relay in a thread; what stops it, which takes less than a second."""
    started: list[Stop] = []

    def start() -> Stop:
        told = threading.Event()

        def run() -> None:
            RelayService(outbox_broker, "default").run(told)
            connections.close_all()

        def stop() -> None:
            told.set()
            thread.join(1.5)
            assert not thread.is_alive()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        started.append(stop)
        return stop

    yield start
    for stop in started:
        stop()


def listening(broker: Broker) -> bool:
    channel = broker.keys.nudge_prefix + "default"
    return bool(broker.connections.execute("PUBSUB", "NUMSUB", channel)[1])


def gone(*handles: Any) -> bool:
    return not {handle.id for handle in handles} & set(waiting())


def test_a_nudge_is_enough(serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 60.0)
    stop = serve()
    wait_for(lambda: listening(outbox_broker))
    for number in range(3):
        handle = add.delay(number)
        wait_for(lambda handle=handle: gone(handle), 5)
    stop()


def test_without_a_nudge_it_looks_by_itself(
    serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.2)
    monkeypatch.setattr(outbox, "nudge", lambda alias: None)
    serve()
    wait_for(lambda: listening(outbox_broker))
    handle = add.delay(1)
    wait_for(lambda: gone(handle), 5)


def test_another_takes_over_when_one_ends(serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STANDBY", 0.1)
    first = serve()
    wait_for(lambda: listening(outbox_broker))
    serve()
    first()
    handle = add.delay(1)
    wait_for(lambda: gone(handle), 5)


def test_it_goes_on_when_redis_is_back(
    serve: Serve, outbox_broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "LAST_BACKOFF", 0.2)
    monkeypatch.setattr(outbox, "_quiet_until", 0.0)
    serve()
    wait_for(lambda: listening(outbox_broker))
    redis_server.stop()
    handle = add.delay(1)
    wait_for(lambda: "relay: nothing leaves the outbox" in caplog.text, 5)
    time.sleep(0.5)
    redis_server.start()
    wait_for(lambda: gone(handle), 5)
    assert caplog.text.count("relay: nothing leaves the outbox") == 1


def test_it_goes_on_when_the_database_is_back(
    serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LAST_BACKOFF", 0.1)
    read = Relay._read
    errors: list[Exception] = [ValueError("a fault of ours"), OperationalError("locked"), OperationalError("locked")]

    def fail_first(self: Relay) -> Any:
        if errors:
            raise errors.pop(0)
        return read(self)

    monkeypatch.setattr(Relay, "_read", fail_first)
    handle = add.delay(1)
    serve()
    wait_for(lambda: gone(handle), 5)
    assert caplog.text.count("trying again: locked") == 1
    assert "a fault of ours" in caplog.text


def test_what_is_left_from_when_it_was_in_use_is_sent(
    serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "in_use", bool)
    monkeypatch.setattr(module, "UNUSED", 0.1)
    serve()
    time.sleep(0.3)
    assert not listening(outbox_broker)
    handle = add.delay(1)
    wait_for(lambda: gone(handle), 5)


def test_without_its_table_nothing_is_looked_for(
    serve: Serve, outbox_broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The package was updated, and nobody has migrated yet."""
    looks: list[int] = []

    def missing(self: Relay) -> Any:
        looks.append(1)
        raise OperationalError("no such table")

    monkeypatch.setattr(Relay, "rows", property(missing))
    monkeypatch.setattr(outbox, "in_use", bool)
    monkeypatch.setattr(module, "UNUSED", 0.05)
    serve()
    wait_for(lambda: len(looks) > 2, 5)
    assert caplog.text == ""
    assert OutboxEntry.objects.count() == 0


def test_a_relay_that_ends_with_an_error_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again each time, and the thread has a file descriptor."""
    monkeypatch.setattr(module, "LEFT", 0.01)
    before = set(threading.enumerate())
    with pytest.raises(SystemExit), module._readable_when(threading.Event()):
        assert set(threading.enumerate()) - before
        raise SystemExit
    wait_for(lambda: not set(threading.enumerate()) - before)
