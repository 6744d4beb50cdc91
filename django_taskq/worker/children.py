"""The supervisor's children: task processes and the maintenance process."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from django.db import connections

from django_taskq.broker.workers import new_worker_id
from django_taskq.signals import worker_process_started, worker_process_stopped
from django_taskq.worker.maintenance import Maintenance
from django_taskq.worker.notes import Note, Notes
from django_taskq.worker.process import TaskProcess, most_together, notes_needed

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.worker.options import WorkerOptions

logger = logging.getLogger("django_taskq.worker")
_fork = multiprocessing.get_context("fork")


class Inherited(Protocol):
    """What the supervisor has open and a child must not keep."""

    def close(self) -> None:
        """In the child."""


class Child(ABC):
    """A forked process and the pipe to it."""

    state = "running"

    def __init__(self, broker: Broker, options: WorkerOptions, inherited: Iterable[Inherited]) -> None:
        self.broker, self.options = broker, options
        self.pipe, theirs = _fork.Pipe()
        self.started = time.monotonic()
        connections.close_all()  # a database connection must not be shared with a child
        self.process = _fork.Process(target=self._main, args=(theirs, [self.pipe, *inherited]), daemon=False)
        self.process.start()
        theirs.close()

    @property
    @abstractmethod
    def name(self) -> str:
        """How the log calls it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    def _main(self, pipe: Connection, inherited: list[Inherited]) -> None:
        for other in inherited:  # or a sibling would keep the supervisor's end of a pipe open after its death
            other.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.freeze()  # what the fork brought along stays: no collection needs to look at it
        code = 1
        try:
            self.run(pipe)
            code = 0
        except Exception:
            logger.exception("%s ends with an error", self.name)
        finally:
            # Threads that are stuck, or that tasks left behind, must not keep the process.
            logging.shutdown()
            os._exit(code)

    @abstractmethod
    def run(self, pipe: Connection) -> None:
        """What the child does."""

    def change_state(self, state: str) -> None:
        """What it says of itself; a child that is being killed has no say."""
        if self.state != "killed":
            self.state = state

    def send(self, request: str) -> None:
        """Asks it for something; a child that is gone does not matter."""
        try:
            self.pipe.send(request)
        except (OSError, ValueError):
            return

    def kill(self) -> None:
        """At once."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Gives back what belonged to it, once it is gone."""
        self.pipe.close()
        self.process.join()
        self.process.close()


class TaskChild(Child):
    """A task process. `notes` says what it is running, even after its death."""

    def __init__(self, broker: Broker, options: WorkerOptions, inherited: Iterable[Inherited]) -> None:
        self.worker = new_worker_id()
        self.notes = Notes(notes_needed(options), most_together())
        self.registered = False
        self.settled = 0
        self.idle = self.ended = False  # it found nothing more to do, in a burst; it ended in good order
        self.over_limit: list[Note] = []  # what it was killed for
        self.last = False  # an operator wants it quiet, or gone: nobody follows it
        self.kill_at: float | None = None  # monotonic seconds, once an operator has told it to stop
        super().__init__(broker, options, inherited)

    def run(self, pipe: Connection) -> None:
        """The task process. Tracing and the like begin after the fork, and send what they gathered before the end."""
        worker_process_started.send_robust(self.worker, queues=self.options.queues)
        try:
            TaskProcess(self.broker, self.worker, self.options, self.notes, pipe).run()
        finally:
            worker_process_stopped.send_robust(self.worker)

    def told(self, word: str, *rest: Any) -> None:
        """The words of worker/process.py."""
        if word == "registered":
            self.registered = True
        elif word == "settled":
            self.settled = rest[0]
        elif word == "idle":
            self.idle = True
        elif word == "ended":
            self.ended = True
        elif word == "retiring":
            self.change_state("retiring")
            logger.info("worker %s makes way for a new one: %s", self.worker, rest[0], extra=self.about)

    @property
    def name(self) -> str:
        """As Child.name."""
        return f"worker {self.worker}"

    @property
    def about(self) -> dict[str, object]:
        """What log records say of it."""
        return {"worker": self.worker}

    @property
    def lasting(self) -> bool:
        """Whether it counts among those that there should be."""
        return self.state == "running" or self.last

    def close(self) -> None:
        """As Child.close."""
        super().close()
        self.notes.close()


class MaintenanceChild(Child):
    """The process of the sweeps. `owner` holds the recorder's lease: one that died leaves it to its successor."""

    def __init__(self, broker: Broker, options: WorkerOptions, inherited: Iterable[Inherited], owner: str) -> None:
        self.owner = owner
        super().__init__(broker, options, inherited)

    @property
    def name(self) -> str:
        """As Child.name."""
        return "the maintenance process"

    def run(self, pipe: Connection) -> None:
        """The maintenance process."""
        Maintenance(self.broker, pipe, self.owner, metered=self.options.metered).run()
