"""The proxy itself: a network fault that does not happen proves nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import redis

from tests.chaos.proxy import Cut, Proxy
from tests.servers import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy("127.0.0.1", redis_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    with redis.Redis(port=proxy.port, retry=None, socket_timeout=0.5) as client:
        assert client.ping()
        yield client


def test_lost_reply_arrives_at_the_server(proxy: Proxy, client: redis.Redis, redis_server: RedisServer) -> None:
    cut = Cut(b"needle", deliver=True)
    proxy.cut(cut)
    with pytest.raises(redis.ConnectionError):
        client.set("needle", 1)
    assert cut.hit.is_set()
    assert redis_server.client().get("needle") == b"1"
    client.set("needle", 2)
    assert redis_server.client().get("needle") == b"2"


def test_cut_before_never_arrives(proxy: Proxy, client: redis.Redis, redis_server: RedisServer) -> None:
    proxy.cut(Cut(b"needle", deliver=False))
    with pytest.raises(redis.ConnectionError):
        client.set("needle", 1)
    assert redis_server.client().get("needle") is None


def test_half_open_connections_are_silent_and_new_ones_work(proxy: Proxy, client: redis.Redis) -> None:
    proxy.half_open()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    assert client.ping()


def test_blackhole_keeps_what_was_sent_for_later(proxy: Proxy, client: redis.Redis, redis_server: RedisServer) -> None:
    with proxy.blackhole(), pytest.raises(redis.TimeoutError):
        client.set("late", 1)
    deadline = time.monotonic() + 2
    while redis_server.client().get("late") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert redis_server.client().get("late") == b"1"


def test_delay(proxy: Proxy, client: redis.Redis) -> None:
    proxy.delay(0.05, 0.06)
    started = time.monotonic()
    client.ping()
    assert 0.1 <= time.monotonic() - started < 2


def test_reset_ends_idle_connections(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as idle:
        idle.sendall(b"PING\r\n")
        assert idle.recv(100) == b"+PONG\r\n"
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            idle.recv(100)
