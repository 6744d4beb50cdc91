"""One subscription to the end of one task, on a connection of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis

from django_taskq.broker.connection import descriptor_of, readable, retrying
from django_taskq.broker.errors import typed

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections

PATIENCE = 2.0  # seconds


class Listener:
    """Subscribed once constructed. Raises BrokerUnavailable when the connection breaks."""

    def __init__(self, connections: Connections, channel: bytes) -> None:
        self._connections, self._channel = connections, channel
        self._connection = self._subscribed()

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
            raise typed(error, self._connections.location.display) from error
        return True

    def renew(self) -> None:
        """Subscribes again, when the connection broke: look once more, for the announcement may have been missed.

        Raises BrokerUnavailable when Redis stays away for 2 s.
        """
        self.close()
        self._connection = retrying(self._subscribed, PATIENCE)

    def _subscribed(self) -> redis.Connection:
        connection = self._connections.open()
        try:
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
        except (redis.exceptions.RedisError, OSError) as error:
            connection.disconnect()
            raise typed(error, self._connections.location.display) from error
        return connection

    def fileno(self) -> int:
        """Of the socket, for an event loop to watch."""
        return descriptor_of(self._connection)

    def close(self) -> None:
        """Ends the subscription."""
        self._connection.disconnect()
