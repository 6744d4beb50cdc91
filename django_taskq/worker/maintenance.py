"""The maintenance process: runs the sweeps as small named services, each in a thread, at low priority."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Protocol

from django_taskq import producer
from django_taskq.broker.workers import Workers
from django_taskq.conf import get_settings
from django_taskq.periodic.scheduler import Scheduler
from django_taskq.recorder import Recorder
from django_taskq.retention import Pruner
from django_taskq.worker.limit_sweeper import LimitSweeper
from django_taskq.worker.metrics_token import TokenReader
from django_taskq.worker.reclaimer import Reclaimer
from django_taskq.worker.relays import RelayService
from django_taskq.worker.sampler import Sampler
from django_taskq.worker.tally import Tally

if TYPE_CHECKING:
    from django_taskq.broker import Broker

logger = logging.getLogger("django_taskq.worker")

NICENESS = 10  # tasks come first: rows may be late, and where nobody works there is time to catch up
AGAIN = 1.0  # seconds until a sweep that has ended with an error is run again
LAST_RECORDS = 10.0  # seconds it may take at the end to record what is left


class Service(Protocol):
    """A sweep that ends soon after `stop` is set."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. It bears errors of Redis and the database itself; after another one it is run again."""


class Maintenance:
    """Ends when it is told to, or when its supervisor is gone, which it tells once a second what it has counted,
    and a new token of the metrics port."""

    def __init__(self, broker: Broker, pipe: Connection, owner: str, *, metered: bool = False) -> None:
        self._pipe = pipe
        self._tally = Tally() if metered else None
        producer.set_counter(self._tally.sent if self._tally else None)  # periodic tasks are sent from here
        secret = get_settings().metrics_token if metered else None
        self._token = None if secret is None else TokenReader(secret)
        self._recorder = Recorder(broker, owner)
        self.services: dict[str, Service] = {
            "recorder": self._recorder,
            "reclaimer": Reclaimer(
                Workers(broker.connections, broker.keys), counter=self._tally.reclaimed if self._tally else None
            ),
            "pruner": Pruner(),
            "scheduler": Scheduler(broker),
            "limits": LimitSweeper(broker, get_settings().queues),
            "sampler": Sampler(broker, get_settings().queues),
            **{f"relay-{database}": RelayService(broker, database) for database in get_settings().outbox_databases},
        }

    def run(self) -> None:
        """Serves until the end."""
        for number in (signal.SIGINT, signal.SIGTERM):  # the supervisor says when: the last task must end before
            signal.signal(number, signal.SIG_IGN)
        os.nice(NICENESS)
        stop = threading.Event()
        threads = [
            threading.Thread(target=keep, args=(name, service, stop), name=f"taskq-{name}", daemon=True)
            for name, service in self.services.items()
        ]
        for thread in threads:
            thread.start()
        if self._token is not None:
            self._token.start()
        self._wait_for_the_end()
        stop.set()
        deadline = time.monotonic() + LAST_RECORDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._record_the_rest(deadline)

    def _wait_for_the_end(self) -> None:
        try:
            while not wait([self._pipe], 1.0 if self._tally else None):
                self._report()
            self._pipe.recv()
        except (EOFError, OSError):
            logger.error("maintenance has lost its supervisor and ends")

    def _report(self) -> None:
        if self._tally is not None:
            for part in self._tally.take().parts():
                self._pipe.send(("counted", part))
        if self._token is not None and (token := self._token.take()) is not None:
            self._pipe.send(("token", token))

    def _record_the_rest(self, deadline: float) -> None:
        try:
            while self._recorder.run_once() and time.monotonic() < deadline:
                continue
        except Exception as error:  # noqa: BLE001 - what is not recorded waits in Redis for the next recorder
            logger.warning("maintenance ends with outcomes still to be recorded: %s", error)
        finally:
            self._recorder.close()


def keep(name: str, service: Service, stop: threading.Event) -> None:
    """Runs a sweep until `stop` is set. Its thread must not end before: nobody would notice at once."""
    while not stop.is_set():
        try:
            service.run(stop)
        except BaseException:  # a receiver of a signal may raise SystemExit, of which threads end without a word
            logger.exception("maintenance: %s has ended with an error and starts again in %.0f s", name, AGAIN)
            stop.wait(AGAIN)
