"""One subscription to the end of one task, on a connection of its own."""

from __future__ import annotations

import time

import redis

from django_taskq.broker.connection import descriptor_of, readable
from django_taskq.broker.errors import typed


class Listener:
    """Subscribed once constructed. Raises BrokerUnavailable when the connection breaks."""

    def __init__(self, connection: redis.Connection, channel: bytes, where: str) -> None:
        self._connection, self._where = connection, where
        try:
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
        except (redis.exceptions.RedisError, OSError) as error:
            connection.disconnect()
            raise typed(error, where) from error

    def wait(self, seconds: float) -> bool:
        """Waits for the announcement. Returns False when it did not come in time."""
        deadline = time.monotonic() + seconds
        try:
            while not self._connection.can_read(timeout=0):
                left = deadline - time.monotonic()
                if left <= 0 or not readable(left, descriptor_of(self._connection)):
                    return False
            self._connection.read_response()
        except (redis.exceptions.RedisError, OSError) as error:
            raise typed(error, self._where) from error
        return True

    def fileno(self) -> int:
        """Of the socket, for an event loop to watch."""
        return descriptor_of(self._connection)

    def close(self) -> None:
        """Ends the subscription."""
        self._connection.disconnect()
