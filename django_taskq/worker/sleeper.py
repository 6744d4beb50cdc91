"""Sleeping until there is work: a BLPOP on the queues' wake lists, on a connection of its own.

The wait is on the socket with a time-out of our own, because the server's own overshoots by up to 100 ms. The BLPOP has
none; CLIENT UNBLOCK takes it back, so that a token which comes later is left for somebody who sleeps.
"""

from __future__ import annotations

import os

import redis

from django_taskq.broker.connection import Connections, descriptor_of, readable


class Sleeper:
    """Raises redis-py's errors, after which the next sleep starts on a new connection. `wake` from any thread."""

    def __init__(self, connections: Connections, keys: list[str]) -> None:
        self._connections, self._keys = connections, keys
        self._connection: redis.Connection | None = None
        self._client_id = 0
        self._interrupt, self._interrupting = os.pipe()

    def wake(self) -> None:
        """It sleeps no more, now and later."""
        os.write(self._interrupting, b"!")

    def sleep(self, seconds: float, other: redis.Connection) -> None:
        """Sleeps until a token comes, `seconds` are over, or it is woken.

        `other` is an idle connection, for taking the BLPOP back.
        """
        connection = self._connect()
        try:
            connection.send_command("BLPOP", *self._keys, 0)
            if not connection.can_read(timeout=0):
                descriptor = descriptor_of(connection)
                if descriptor not in readable(seconds, descriptor, self._interrupt):
                    other.send_command("CLIENT", "UNBLOCK", self._client_id)
                    other.read_response()
            connection.read_response()  # a token, or nothing
        except BaseException:
            self.close()
            raise

    def _connect(self) -> redis.Connection:
        if self._connection is None:
            connection = self._connections.open()
            connection.send_command("CLIENT", "ID")
            self._client_id = connection.read_response()
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
