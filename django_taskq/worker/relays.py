"""When the relay of a database looks into its outbox: when it is nudged, and every few seconds in any case."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db import Error, connections

from django_taskq import outbox
from django_taskq.broker.connection import readable
from django_taskq.broker.outbox import nudges
from django_taskq.exceptions import TaskqError
from django_taskq.relay import Relay
from django_taskq.setbacks import Setbacks

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.broker.listener import Listener

logger = logging.getLogger("django_taskq.worker")

EVERY = 2.0  # seconds between looks without a nudge
STANDBY = 2.0  # seconds between looks for the lease, while another relay holds it
UNUSED = 10.0  # seconds between looks where no task uses the outbox: what is left from when one did
LISTEN = 60.0  # seconds after which the subscription is made anew: a router may have dropped its connection unheard
LEFT = 1.0  # seconds until a thread notices that the relay that it serves has ended with an error
FIRST_BACKOFF, LAST_BACKOFF = 0.25, 15.0  # seconds, while Redis or the database is away


class RelayService:
    """One for each database of TASKQ["OUTBOX_DATABASES"], in every worker's maintenance process."""

    def __init__(self, broker: Broker, database: str) -> None:
        self._broker, self._database = broker, database
        self._relay = Relay(broker, database)
        self._listener: Listener | None = None
        self._renew_at = 0.0  # monotonic seconds
        self._setbacks = Setbacks(logger, "relay", first=FIRST_BACKOFF, last=LAST_BACKOFF)

    def run(self, stop: threading.Event) -> None:
        """Looks until `stop` is set; while Redis or the database is away it tries again, for ever."""
        with _readable_when(stop) as stopped:
            self._await_use(stop)
            while not stop.is_set():
                try:
                    self._look(stop, stopped)
                except Exception as error:  # noqa: BLE001 - whatever it is, entries must go on being sent
                    stop.wait(self._failed(error))
                else:
                    self._setbacks.over()
        self._stop_listening()
        self._relay.close()

    def _look(self, stop: threading.Event, stopped: int) -> None:
        """Sends what there is, then waits for more."""
        if self._relay.holding and (self._listener is None or time.monotonic() > self._renew_at):
            self._listen()
        done = self._relay.run_once()
        if not self._relay.holding:
            self._stop_listening()
            stop.wait(STANDBY)
        elif not done and self._listener is not None and not self._nudged(self._listener):
            readable(EVERY, self._listener.fileno(), stopped)

    @staticmethod
    def _nudged(listener: Listener) -> bool:
        """Takes all nudges that have come; one look is enough for them."""
        nudged = False
        while listener.wait(0):
            nudged = True
        return nudged

    def _listen(self) -> None:
        """Subscribes before a look, so that nothing can be missed in between."""
        self._stop_listening()
        self._listener = nudges(self._broker, self._database)
        self._renew_at = time.monotonic() + LISTEN

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _await_use(self, stop: threading.Event) -> None:
        """Where no task uses the outbox, a relay costs a query now and then."""
        in_use = outbox.in_use()
        while not in_use and not stop.is_set():
            try:
                in_use = self._relay.rows.exists()
            except Error:  # away, or not migrated
                connections[self._database].close()
            if not in_use:
                stop.wait(UNUSED)

    def _failed(self, error: Exception) -> float:
        """Seconds until the next look."""
        self._stop_listening()
        connections[self._database].close()
        away = isinstance(error, Error | TaskqError)
        return self._setbacks.met(error, f"nothing leaves the outbox of {self._database!r}" if away else "")


@contextlib.contextmanager
def _readable_when(stop: threading.Event) -> Iterator[int]:
    """A file descriptor that can be read once `stop` is set, for whoever waits for sockets."""
    reading, writing = os.pipe()
    left = threading.Event()

    def pass_on() -> None:
        while not stop.wait(LEFT) and not left.is_set():
            pass
        os.close(writing)

    threading.Thread(target=pass_on, name="taskq-relay-stop", daemon=True).start()
    try:
        yield reading
    finally:
        left.set()
        os.close(reading)
