"""Connections to Redis: where it is, how a connection is made, and the one fast call.

redis-py's public call costs three times what the same EVALSHA costs when hiredis packs it and a connection's own
`send_packed_command` and `read_response` do the rest, so scripts are run that way. Nothing here reconnects behind the
caller's back: a connection that failed is thrown away, and whoever may send a call twice (every script may) says so
with `retrying`.
"""

from __future__ import annotations

import os
import random
import select
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from hiredis import pack_command

from django_taskq.broker.errors import code_of, typed
from django_taskq.broker.location import Location
from django_taskq.exceptions import BrokerFull, BrokerUnavailable

if TYPE_CHECKING:
    from django_taskq.broker.scripts import Script

HASTE = 0.25  # seconds

T = TypeVar("T")
Call = tuple["Script", Sequence[Any]]
_all: weakref.WeakSet[Connections] = weakref.WeakSet()


class Connections:
    """The idle connections of this process to one Redis; thread-safe, and empty again after a fork."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._idle: deque[redis.Connection] = deque()
        self._hasty: Connections | None = None
        _all.add(self)

    @property
    def hasty(self) -> Connections:
        """Others to the same Redis, for what nobody should wait for: no step takes longer than HASTE."""
        if self._hasty is None:
            self._hasty = Connections(self.location.with_options(socket_timeout=HASTE, socket_connect_timeout=HASTE))
        return self._hasty

    def open(self) -> redis.Connection:
        """A new connection, connected; raises BrokerUnavailable."""
        try:
            connection = self.location.new_connection()
            try:
                connection.connect()
            except redis.exceptions.ConnectionError:
                if not self.location.revive():
                    raise
                connection = self.location.new_connection()
                connection.connect()
            return connection
        except (redis.exceptions.RedisError, OSError) as error:
            raise typed(error, self.location.display) from error

    def client(self, **options: Any) -> redis.Redis:
        """redis-py's own client, for what is rare: INFO, pub/sub, the inspector."""
        self.location.revive()
        return redis.Redis(connection_pool=self.location.new_pool(**options))

    def run(self, script: Script, arguments: Sequence[Any]) -> Any:
        """One script in one round trip; `arguments` are the number of keys, the keys, the rest. Typed errors."""
        connection = self._take()
        reply = self._guarded(connection, run_script, connection, script, arguments)
        self._idle.append(connection)
        return reply

    def start(self, script: Script, arguments: Sequence[Any]) -> Callable[[], Any]:
        """`run` in two steps: sends the script, and returns what waits for its reply (to be called once, if at all)."""
        connection = self._take()
        command = (_packed(script, arguments),)
        self._guarded(connection, connection.send_packed_command, command)

        def reply() -> Any:
            answer = self._guarded(connection, _reply, connection, script, command)
            self._idle.append(connection)
            return answer

        return reply

    def execute(self, *command: Any) -> Any:
        """One plain command in one round trip. Typed errors."""
        connection = self._take()
        self._guarded(connection, connection.send_command, *command)
        reply = self._guarded(connection, connection.read_response)
        self._idle.append(connection)
        return reply

    def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Plain commands in one round trip; an error reply to any of them is raised. Typed errors."""
        if not commands:
            return []
        connection = self._take()
        replies = self._guarded(connection, _run_pipeline, connection, commands)
        self._idle.append(connection)
        return replies

    def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Several scripts in one round trip: for each its reply, or the typed error of that one. Typed errors."""
        connection = self._take()
        replies = self._guarded(connection, run_scripts, connection, calls)
        self._idle.append(connection)
        return [typed(reply, self.location.display) if isinstance(reply, Exception) else reply for reply in replies]

    def close(self) -> None:
        """Closes the idle connections; from several threads at a time, perhaps."""
        if self._hasty is not None:
            self._hasty.close()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.disconnect()

    def _guarded(self, connection: redis.Connection, act: Callable[..., T], *arguments: Any) -> T:
        """Acts on a connection, which is thrown away when anything goes wrong. Typed errors."""
        try:
            return act(*arguments)
        except Exception as error:
            connection.disconnect()
            problem = typed(error, self.location.display)
            if isinstance(problem, BrokerUnavailable) and not isinstance(problem, BrokerFull):
                self.close()  # what ended this connection has ended the idle ones, too
            raise problem from error
        except BaseException:
            connection.disconnect()
            raise

    def _take(self) -> redis.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self.open()

    def _forget(self) -> None:
        self._idle = deque()


def run_script(connection: redis.Connection, script: Script, arguments: Sequence[Any]) -> Any:
    """EVALSHA on one connection; loads the script where Redis does not have it. Raises redis-py's errors."""
    command = (_packed(script, arguments),)
    connection.send_packed_command(command)
    return _reply(connection, script, command)


def _reply(connection: redis.Connection, script: Script, command: tuple[bytes]) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.NoScriptError:
        connection.send_command("SCRIPT", "LOAD", script.source)
        connection.read_response()
        connection.send_packed_command(command)
        return connection.read_response()


def run_scripts(connection: redis.Connection, calls: Sequence[Call]) -> list[Any]:
    """Several scripts as one pipeline: a reply or a ResponseError for each. Raises when the connection breaks."""
    connection.send_packed_command((b"".join(_packed(script, arguments) for script, arguments in calls),))
    replies: list[Any] = []
    for _ in calls:
        try:
            replies.append(connection.read_response())
        except redis.exceptions.ConnectionError:
            raise
        except redis.exceptions.ResponseError as error:
            replies.append(error)
    for position, reply in enumerate(replies):
        if isinstance(reply, Exception) and code_of(reply) == "NOSCRIPT":
            try:
                replies[position] = run_script(connection, *calls[position])
            except redis.exceptions.ResponseError as error:
                replies[position] = error
    return replies


def _run_pipeline(connection: redis.Connection, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    return [connection.read_response() for _ in commands]


def _packed(script: Script, arguments: Sequence[Any]) -> bytes:
    packed: bytes = pack_command(("EVALSHA", script.sha, *arguments))
    return packed


def retrying(attempt: Callable[[], T], seconds: float) -> T:
    """Calls `attempt` until it succeeds, for at most `seconds` while Redis is away; then raises BrokerUnavailable.

    The first repetition is immediate (an idle connection may have died with a restart), later ones back off with
    jitter up to a second. A full Redis is not waited for.
    """
    deadline, pause = time.monotonic() + seconds, 0.0
    while True:
        try:
            return attempt()
        except BrokerFull:
            raise
        except BrokerUnavailable:
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(1.0, pause * 2 or 0.05)


def descriptor_of(connection: redis.Connection) -> int:
    """The file descriptor of a connected connection's socket."""
    sock: socket.socket | None = connection._sock
    if sock is None:
        raise redis.exceptions.ConnectionError("The connection is closed.")
    return sock.fileno()


def readable(seconds: float, *descriptors: int) -> set[int]:
    """Which file descriptors can be read within so many seconds. (select() would refuse numbers above 1,023.)"""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}


def _after_fork() -> None:
    for connections in _all:
        connections._forget()


os.register_at_fork(after_in_child=_after_fork)
