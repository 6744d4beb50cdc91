"""The server in the supervisor: it answers, and whoever is slow or hostile costs it nothing."""

from __future__ import annotations

import resource
import selectors
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from django_taskq.metrics import http
from django_taskq.metrics.http import HttpServer, Request, Response
from tests.servers import wait_for

LARGE = b"x" * 8_000_000


def answer(request: Request) -> Response:
    body = LARGE if request.path == "/large" else f"{request.method} {request.path}".encode()
    return Response(HTTPStatus.OK, body)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, answer)
    yield server
    server.close()


def connect(server: HttpServer) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setblocking(False)
    return client


def exchange(server: HttpServer, *sent: bytes, client: socket.socket | None = None) -> bytes:
    """All that comes back until the server closes, which it is given a turn to between any two steps."""
    received = b""
    with client or connect(server) as client:
        for piece in sent:
            client.sendall(piece)
            turn(server)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            turn(server)
            try:
                piece = client.recv(1_000_000)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                break
            if not piece:
                break
            received += piece
    return received


def turn(server: HttpServer) -> None:
    began = time.monotonic()
    server.serve()
    assert time.monotonic() - began < 1


def test_it_answers_a_request(server: HttpServer) -> None:
    head, _, body = exchange(server, b"GET /metrics?name=x HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 12" in head
    assert body == b"GET /metrics"


def test_a_request_may_come_byte_by_byte(server: HttpServer) -> None:
    request = b"HEAD /metrics HTTP/1.0\r\n\r\n"
    reply = exchange(server, *(request[i : i + 1] for i in range(len(request))))
    assert b"Content-Length: 13" in reply
    assert reply.endswith(b"\r\n\r\n")


def test_its_descriptor_says_when_there_is_something_to_do(server: HttpServer) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(server.fileno(), selectors.EVENT_READ)
        assert not selector.select(0)
        with connect(server) as client:
            assert selector.select(1)
            server.serve()
            assert not selector.select(0)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert selector.select(1)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls to a plain port\r\n\r\n", b"400"),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000, b"400"),
    ],
)
def test_what_is_no_request_is_refused(server: HttpServer, sent: bytes, status: bytes) -> None:
    assert exchange(server, sent).startswith(b"HTTP/1.1 " + status)
    assert exchange(server, b"GET /next HTTP/1.1\r\n\r\n").endswith(b"GET /next")


def test_a_reader_that_does_not_read_holds_up_nobody(server: HttpServer) -> None:
    with connect(server) as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        for _ in range(5):
            turn(server)
        assert exchange(server, b"GET /next HTTP/1.1\r\n\r\n").endswith(b"GET /next")
        assert exchange(server, client=slow).endswith(LARGE[-1000:])  # once it reads, it gets everything


def test_whoever_says_nothing_is_dropped(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    with connect(server) as silent:
        turn(server)
        time.sleep(0.06)
        turn(server)
        assert silent.recv(1) == b""


def test_many_idle_connections_lock_nobody_out(server: HttpServer) -> None:
    idle = []
    for _ in range(2 * http.MOST_CONNECTIONS):
        idle.append(connect(server))
        turn(server)
    assert exchange(server, b"GET /next HTTP/1.1\r\n\r\n").endswith(b"GET /next")
    assert len(server._connections) <= http.MOST_CONNECTIONS
    for client in idle:
        client.close()
    wait_for(lambda: server.serve() or not server._connections)


def test_a_client_that_hangs_up_leaves_nothing(server: HttpServer) -> None:
    for sent in (b"", b"GET / HT", b"GET /large HTTP/1.1\r\n\r\n"):
        with connect(server) as client:
            client.sendall(sent)
            turn(server)
    wait_for(lambda: server.serve() or not server._connections)


def test_without_file_descriptors_it_rests_and_says_so_once(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http, "PAUSE", 0.2)
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connect(server) as client, selectors.DefaultSelector() as selector:
        selector.register(server.fileno(), selectors.EVENT_READ)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno(), hard))  # a new one would have a higher number
        try:
            for _ in range(3):
                assert selector.select(1)
                server.serve()
                assert not selector.select(0)  # whoever waits for this descriptor is left alone meanwhile
                time.sleep(0.21)
                server.serve()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        assert caplog.text.count("no connection can be accepted") == 1
        wait_for(lambda: server.serve() or server._connections)
    assert exchange(server, b"GET /next HTTP/1.1\r\n\r\n").endswith(b"GET /next")
