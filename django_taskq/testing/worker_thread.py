"""A worker in threads of this process: claims, runs and settles as a worker's task process does, without a supervisor.

Where tasks use the outbox, it has a relay, too.

Whoever needs processes (hard limits, what happens when one dies) starts `manage.py taskq_worker`.
"""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from types import TracebackType
from typing import Self

from django.db import connections

from django_taskq import outbox
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.workers import Beat, Workers, new_worker_id
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.recorder import Recorder
from django_taskq.worker.notes import Notes
from django_taskq.worker.options import WorkerOptions
from django_taskq.worker.process import TaskProcess, most_together, notes_needed
from django_taskq.worker.relays import RelayService

BEAT = 1.0  # seconds
PATIENCE = 10.0  # seconds until it has registered, and until it has ended


class WorkerThread:
    """A context manager: it serves all queues of TASKQ inside it, and has released what still runs when it ends."""

    def __init__(self, *, threads: int = 2, async_concurrency: int = 20, shutdown_timeout: float = 5.0) -> None:
        """`shutdown_timeout`: seconds that running tasks are given at the end."""
        self.id = new_worker_id()
        self._broker = get_broker()
        self._options = WorkerOptions(
            queues=tuple(get_settings().queues), threads=threads, async_concurrency=async_concurrency,
            shutdown_timeout=shutdown_timeout,
        )  # fmt: skip
        self._pipe, theirs = Pipe()
        self._notes = Notes(notes_needed(self._options), most_together())
        self._process = TaskProcess(self._broker, self.id, self._options, self._notes, theirs)
        self._thread = threading.Thread(target=self._process.serve, name="taskq-worker", daemon=True)
        self._workers = Workers(self._broker.connections, self._broker.keys)
        self._registered, self._ended = threading.Event(), threading.Event()
        self._supervising = threading.Thread(target=self._supervise, name="taskq-beat", daemon=True)
        self._relaying = [
            threading.Thread(target=_relay, args=(self._broker, alias, self._ended), name="taskq-relay", daemon=True)
            for alias in (get_settings().outbox_databases if outbox.in_use() else ())
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        self._supervising.start()
        if not self._registered.wait(PATIENCE):
            raise TaskqError(f"The worker has not reached Redis at {self._broker.connections.location.display}.")
        for thread in self._relaying:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pipe.send("stop")
        self._thread.join(self._options.shutdown_timeout + PATIENCE)
        self._ended.set()
        for thread in (self._supervising, *self._relaying):
            thread.join(PATIENCE)
        self._workers.declare_dead(self.id, None, [])
        self._workers.reclaim(self.id)
        self._pipe.close()

    def record(self) -> int:
        """Writes the records of what has ended, with this thread's database connection; how many outcomes that were."""
        recorder, recorded = Recorder(self._broker, self.id), 0
        while written := recorder.run_once():
            recorded += written
        return recorded

    def _supervise(self) -> None:
        """What a supervisor does for a child: listens to it, and says that it is alive."""
        while not self._ended.is_set():
            while self._pipe.poll(0.0 if self._registered.is_set() else BEAT):
                try:
                    words = self._pipe.recv()
                except EOFError:
                    return
                if words[0] == "registered":
                    self._registered.set()
            self._ended.wait(BEAT)
            if self._registered.is_set() and not self._ended.is_set():
                self._beat()

    def _beat(self) -> None:
        try:
            for requests in self._workers.beat([Beat(self.id, {})]).values():
                for request in requests or ():
                    self._pipe.send(request)
        except (TaskqError, OSError):
            return


def _relay(broker: Broker, database: str, stop: threading.Event) -> None:
    """Sends what is committed to an outbox, until `stop` is set."""
    try:
        RelayService(broker, database).run(stop)
    finally:
        connections.close_all()  # this thread's: a test database must be free to be dropped
