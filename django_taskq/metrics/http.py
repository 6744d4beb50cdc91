"""A small HTTP server that never blocks: for a process with one thread that has more important things to do.

It answers GET and HEAD, one request a connection. Whoever is slow, sends too much or connects too often loses its
connection; nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

logger = logging.getLogger("django_taskq.worker")

PATIENCE = 10.0  # seconds from the first byte expected to the last byte taken
MOST_CONNECTIONS = 32
MOST_BYTES = 16_384  # of a request
READ = 65_536
PAUSE = 1.0  # seconds without new connections where there are no file descriptors left for them
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Request(NamedTuple):
    """`headers` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]


class Response(NamedTuple):
    """`headers` are further ones."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.received, self.answer = sock, b"", memoryview(b"")
        self.deadline = time.monotonic() + PATIENCE


class HttpServer:
    """`answer` makes the response to a request; it should be quick. Raises OSError where it cannot listen."""

    def __init__(self, address: str, port: int, answer: Callable[[Request], Response]) -> None:
        six = ":" in address
        self._listener = socket.create_server(
            (address, port), backlog=MOST_CONNECTIONS, family=socket.AF_INET6 if six else socket.AF_INET,
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )  # fmt: skip
        self._listener.setblocking(False)
        self._answer = answer
        self._connections: list[_Connection] = []  # the oldest first
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._listens_again, self._said = 0.0, False  # monotonic seconds, 0 while it listens

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def fileno(self) -> int:
        """Of the selector (epoll, kqueue): readable when there is something to do."""
        return self._selector.fileno()

    def serve(self) -> None:
        """Does what can be done at once."""
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept()
            else:
                self._go_on(key.data)
        now = time.monotonic()
        if self._listens_again and now >= self._listens_again:
            self._listens_again = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in [late for late in self._connections if now > late.deadline]:
            self._drop(connection)

    def close(self) -> None:
        """Closes everything. In a forked child that leaves the parent's untouched: nothing is unregistered."""
        for sock in (self._listener, *(connection.sock for connection in self._connections)):
            sock.close()
        self._connections.clear()
        self._selector.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # it has gone again; or it waits, and whoever waits would wake us again and again
            if error.errno in _SCARCE:
                self._pause(error)
            return
        self._said = False
        sock.setblocking(False)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._drop(self._connections[0])
        connection = _Connection(sock)
        self._connections.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _pause(self, error: OSError) -> None:
        """Until there may be room again. Said once, until a connection has been accepted."""
        self._selector.unregister(self._listener)
        self._listens_again = time.monotonic() + PAUSE
        if not self._said:
            self._said = True
            logger.error("metrics: no connection can be accepted, trying again every %.0f s: %s", PAUSE, error)

    def _go_on(self, connection: _Connection) -> None:
        try:
            done = self._write(connection) if connection.answer else self._read(connection)
        except BlockingIOError:
            return
        except OSError:
            done = True
        if done:
            self._drop(connection)

    def _read(self, connection: _Connection) -> bool:
        received = connection.sock.recv(READ)
        connection.received += received
        head, end, _ = connection.received.partition(b"\r\n\r\n")
        if not end:
            if len(connection.received) <= MOST_BYTES:
                return not received
            head = b""
        request = _parse(head)
        response = Response(HTTPStatus.BAD_REQUEST, b"bad request\n") if request is None else self._respond(request)
        connection.answer = memoryview(_encode(response, only_head=request is not None and request.method == "HEAD"))
        self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        return self._write(connection)

    def _respond(self, request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n", headers=(("Allow", "GET, HEAD"),))
        return self._answer(request)

    def _write(self, connection: _Connection) -> bool:
        connection.answer = connection.answer[connection.sock.send(connection.answer) :]
        return not connection.answer

    def _drop(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.sock)
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)  # or unread input would make it a reset, which loses the answer
        connection.sock.close()


def _parse(head: bytes) -> Request | None:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return None
    pairs = (line.partition(":") for line in lines)
    return Request(words[0], words[1].partition("?")[0], {name.lower(): value.strip() for name, _, value in pairs})


def _encode(response: Response, *, only_head: bool) -> bytes:
    headers = [
        ("Content-Type", response.content_type), ("Content-Length", str(len(response.body))),
        ("Connection", "close"), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
        *response.headers,
    ]  # fmt: skip
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if only_head else head + response.body
