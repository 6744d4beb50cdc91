"""The supervisor's children: starts those that are missing, hears them, and kills and removes them when it must."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django_taskq.broker.workers import new_worker_id
from django_taskq.worker.children import Inherited, MaintenanceChild, TaskChild
from django_taskq.worker.process_info import cause_of
from django_taskq.worker.restarts import Restarts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from django_taskq.broker import Broker
    from django_taskq.worker.graves import Graves
    from django_taskq.worker.notes import Note
    from django_taskq.worker.options import WorkerOptions
    from django_taskq.worker.tally import Increments

logger = logging.getLogger("django_taskq.worker")

MAINTENANCE_PATIENCE = 15.0  # seconds that the maintenance process may take to end


class Nursery:
    """Used in the supervisor's one thread. What children count goes to `increments`, what the dead held to `graves`."""

    def __init__(self, broker: Broker, graves: Graves, increments: Increments) -> None:
        self._broker, self._graves, self._increments = broker, graves, increments
        self.tasks: list[TaskChild] = []
        self.maintenance: MaintenanceChild | None = None
        self.finished = 0  # task processes that found nothing more to do, in a burst, or that an operator stopped
        self.metrics_token: bytes | None = None  # as the maintenance process was given it last
        self.exit_code = 0  # 1 when one did not end in time
        self._task_restarts, self._maintenance_restarts = Restarts("task"), Restarts("maintenance")
        self._recorder = new_worker_id()  # holds the recorder's lease, whichever process does the recording

    def everybody(self) -> list[TaskChild | MaintenanceChild]:
        """All children."""
        return [*self.tasks, self.maintenance] if self.maintenance else [*self.tasks]

    def pipes(self) -> list[Connection]:
        """To all children."""
        return [child.pipe for child in self.everybody()]

    def start_missing(self, options: WorkerOptions, inherited: Iterable[Inherited]) -> None:
        """Starts those that there should be. They close what they have `inherited`, and the pipes to their siblings."""
        try:
            self._fork_missing(options, list(inherited))
        except OSError as error:  # too many processes, too little memory
            self._task_restarts.wait(1.0)
            self._maintenance_restarts.wait(1.0)
            logger.error("no process can be started, trying again: %s", error)

    def _fork_missing(self, options: WorkerOptions, inherited: Sequence[Inherited]) -> None:
        if self.maintenance is None and self._maintenance_restarts.may_start():
            self.maintenance = MaintenanceChild(self._broker, options, [*self.pipes(), *inherited], self._recorder)
        if not self._task_restarts.may_start():
            return
        present = sum(child.lasting for child in self.tasks)
        for _ in range(options.processes - present - self.finished):
            self.tasks.append(TaskChild(self._broker, options, [*self.pipes(), *inherited]))

    def listen(self, child: TaskChild | MaintenanceChild) -> None:
        """Takes all that a child has said."""
        try:
            while child.pipe.poll():
                word, *rest = child.pipe.recv()
                if word == "counted":
                    self._increments.merge(rest[0])
                elif word == "token":
                    self.metrics_token = rest[0]
                elif isinstance(child, TaskChild):
                    child.told(word, *rest)
        except (EOFError, OSError):
            return  # it is gone; its exit code is found in a moment

    def tell_tasks(self, request: str) -> None:
        """Asks all task processes for something."""
        for child in self.tasks:
            child.send(request)

    def bury_dead(self, *, stopping: bool) -> None:
        """Removes the children that are gone. `stopping`: the maintenance process may be."""
        for child in list(self.tasks):
            code = child.process.exitcode
            if code is not None:
                self._bury(child, code)
        if self.maintenance is not None and self.maintenance.process.exitcode is not None:
            if not stopping:
                logger.error(
                    "the maintenance process died (%s); another one starts", cause_of(self.maintenance.process.exitcode)
                )
                self._maintenance_restarts.died(self.maintenance.started)
            self.maintenance.close()
            self.maintenance = None

    def _bury(self, child: TaskChild, code: int) -> None:
        self.listen(child)
        self.tasks.remove(child)
        notes = child.notes.read()
        self._graves.add(child, notes)
        if not child.ended and child.state != "killed":
            running = f", entries {_entries_of(notes)}" if notes else ""
            text = "worker %s died (%s) with %d tasks running%s"
            logger.error(text, child.worker, cause_of(code), len(notes), running, extra=child.about)
            self._task_restarts.died(child.started)
        self.finished += child.idle or child.last
        child.close()

    def enforce(self, *, late: bool) -> None:
        """Kills what is over a hard time limit, and what has not ended long after it was told to: `late`, all of it."""
        now = time.monotonic()
        for child in self.tasks:
            if child.state == "killed":
                continue
            over = [note for note in child.notes.read() if note.hard_deadline and now >= note.hard_deadline]
            if over:
                text = "worker %s is killed: hard time limit of %d task(s), entries %s"
                logger.error(text, child.worker, len(over), _entries_of(over), extra=child.about)
                child.state, child.over_limit = "killed", over
                child.kill()
            elif late or (child.kill_at is not None and now > child.kill_at):
                logger.error("worker %s is killed: it did not end in time", child.worker, extra=child.about)
                child.state, self.exit_code = "killed", 1
                child.kill()

    def end_maintenance(self) -> None:
        """Ends the maintenance process, which records what there is before."""
        maintenance = self.maintenance
        if maintenance is None:
            return
        maintenance.send("stop")
        maintenance.process.join(MAINTENANCE_PATIENCE)
        if maintenance.process.exitcode is None:
            logger.error("the maintenance process is killed: it did not end in time")
            maintenance.kill()
            maintenance.process.join()


def _entries_of(notes: Sequence[Note]) -> str:
    """Where the log of a worker that knows the messages says more: the first five."""
    return ", ".join(note.location.decode("utf-8", "replace") for note in notes[:5])
