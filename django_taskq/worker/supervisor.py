"""The supervisor: starts the children, beats for them, replaces the dead, and stops them all in good order.

It has one thread and no database connection, so that it can fork at any time.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from django_taskq.broker.connection import Connections
from django_taskq.broker.health import default_max_outcomes, problems_of
from django_taskq.broker.location import Location
from django_taskq.broker.workers import Workers, new_worker_id
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.signals import worker_started, worker_stopped
from django_taskq.worker.children import Inherited, MaintenanceChild, TaskChild
from django_taskq.worker.exporting import Glance, glance_at
from django_taskq.worker.graves import Graves
from django_taskq.worker.heartbeat import Heartbeat
from django_taskq.worker.notifier import Notifier
from django_taskq.worker.process_info import cause_of
from django_taskq.worker.restarts import Restarts
from django_taskq.worker.tally import Increments, Tally

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.worker.exporting import Exporter
    from django_taskq.worker.options import WorkerOptions

logger = logging.getLogger("django_taskq.worker")

TICK = 0.25  # seconds
PATIENCE = 1.0  # seconds it may take Redis to answer
KILL_AFTER = 8.0  # seconds beyond the shutdown timeout
MAINTENANCE_PATIENCE = 15.0


class Supervisor:
    """`run()` returns the exit code: 0, or 1 when a child had to be killed at the end.

    `exporter` serves what the children count, `increments` is the sum of it.
    """

    def __init__(self, broker: Broker, options: WorkerOptions, exporter: Exporter | None = None) -> None:
        self.broker, self.options, self._exporter = broker, options, exporter
        self._tally, self.increments = Tally(), Increments()
        self.metrics_token: bytes | None = None
        # It waits for Redis in the thread that enforces limits and obeys signals, so it does not wait for long.
        hasty = Location(get_settings(), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        self._workers = Workers(Connections(hasty), broker.keys)
        self._heartbeat = Heartbeat(self._workers)
        self._notifier = Notifier()
        self._children: list[TaskChild] = []
        self._maintenance: MaintenanceChild | None = None
        self._graves = Graves(broker, self._workers, self._tally)
        self._stop_at: float | None = None
        self._signals = 0
        self._task_restarts, self._maintenance_restarts = Restarts("task"), Restarts("maintenance")
        self._recorder = new_worker_id()  # holds the recorder's lease, whichever process does the recording
        self._finished = 0  # children that found nothing more to do, in a burst, or that an operator stopped
        self._exit_code = 0
        self._wakeup = os.pipe()

    def run(self) -> int:
        """Until it is stopped, or a burst is over."""
        try:
            return self._serve()
        except BaseException:
            # It must be seen to have failed: its children finish what they run, as after its death, and it ends.
            for inherited in self._inherited():
                inherited.close()
            raise

    def _serve(self) -> int:
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._catch_signals()
        self._greet(name)
        worker_started.send_robust(name, queues=list(self.options.queues))
        while True:
            self._start_missing()
            if self._over():
                break
            self._wait()
            self._bury_dead()
            self._enforce()
            self._obey_register()
            serving = sum(child.registered and child.lasting for child in self._children)
            self._notifier.tick(serving, self.options.processes, away=self._heartbeat.away)
            self._graves.hand_on()
        self._end_maintenance()
        worker_stopped.send_robust(name)
        logger.info("worker %s stopped", name, extra={"worker": name})
        return self._exit_code

    def _greet(self, name: str) -> None:
        options = self.options
        logger.info(
            "worker %s starts: queues %s, %d process(es) with %d threads and %d async tasks each, Redis at %s",
            name, ", ".join(options.queues), options.processes, options.threads, options.async_concurrency,
            self.broker.connections.location.display, extra={"worker": name},
        )  # fmt: skip
        connections = self.broker.connections
        try:
            for problem in problems_of(connections):
                logger.warning("%s %s", problem.text, problem.hint)
            if options.max_outcomes is None:
                self.options = replace(options, max_outcomes=default_max_outcomes(connections))
        except TaskqError as error:
            logger.error("%s; the worker goes on trying", error)

    def _catch_signals(self) -> None:
        os.set_blocking(self._wakeup[1], False)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake up

    def _signalled(self, number: int, frame: Any) -> None:
        self._signals += 1

    # --- children -----------------------------------------------------------------------------------------------------

    def _start_missing(self) -> None:
        if self._stop_at is not None:
            return
        try:
            self._fork_missing()
        except OSError as error:  # too many processes, too little memory
            self._task_restarts.wait(1.0)
            self._maintenance_restarts.wait(1.0)
            logger.error("no process can be started, trying again: %s", error)

    def _fork_missing(self) -> None:
        if self._maintenance is None and self._maintenance_restarts.may_start():
            self._maintenance = MaintenanceChild(self.broker, self.options, self._inherited(), self._recorder)
        if not self._task_restarts.may_start():
            return
        present = sum(child.lasting for child in self._children)
        for _ in range(self.options.processes - present - self._finished):
            self._children.append(TaskChild(self.broker, self.options, self._inherited()))

    def _everybody(self) -> list[TaskChild | MaintenanceChild]:
        maintenance = [self._maintenance] if self._maintenance else []
        return [*self._children, *maintenance]

    def _inherited(self) -> list[Inherited]:
        """What a forked child closes: or a sibling would keep the supervisor's end of a pipe open after its death."""
        exporter = [self._exporter] if self._exporter else []
        return [*(child.pipe for child in self._everybody()), *exporter]

    def _wait(self) -> None:
        everybody, own = self._everybody(), [self._wakeup[0]]
        if self._exporter is not None:
            own.append(self._exporter.fileno())
        ready = wait(
            [*own, *(child.pipe for child in everybody), *(child.process.sentinel for child in everybody)], TICK
        )
        if self._wakeup[0] in ready:
            os.read(self._wakeup[0], 4096)
        for child in everybody:
            if child.pipe in ready:
                self._listen(child)
        if self._exporter is not None:
            self._exporter.serve(self)
        if self._signals:
            self._stop()

    def _listen(self, child: TaskChild | MaintenanceChild) -> None:
        try:
            while child.pipe.poll():
                word, *rest = child.pipe.recv()
                if word == "counted":
                    self.increments.merge(rest[0])
                elif word == "token":
                    self.metrics_token = rest[0]
                elif isinstance(child, TaskChild):
                    child.told(word, *rest)
        except (EOFError, OSError):
            return  # it is gone; its exit code is found in a moment

    def glance(self) -> Glance:
        """What the exporter shows of this worker now."""
        self.increments.merge(self._tally.take())
        return glance_at(self.options, self._children, self._maintenance, self._heartbeat)

    def _bury_dead(self) -> None:
        for child in list(self._children):
            code = child.process.exitcode
            if code is None:
                continue
            self._listen(child)
            self._children.remove(child)
            notes = child.notes.read()
            self._graves.add(child, notes)
            if not child.ended and child.state != "killed":
                text, running = "worker %s died (%s) with %d tasks running", len(notes)
                logger.error(text, child.worker, cause_of(code), running, extra=child.about)
                self._task_restarts.died(child.started)
            self._finished += child.idle or child.last
            child.close()
        if self._maintenance is not None and self._maintenance.process.exitcode is not None:
            if self._stop_at is None:
                logger.error("the maintenance process died (%s)", cause_of(self._maintenance.process.exitcode))
                self._maintenance_restarts.died(self._maintenance.started)
            self._maintenance.close()
            self._maintenance = None

    def _enforce(self) -> None:
        """Kills what is over a hard time limit, and what has not ended long after it was told to."""
        now = time.monotonic()
        late = self._stop_at is not None and now > self._stop_at + KILL_AFTER
        for child in self._children:
            over = [note for note in child.notes.read() if note.hard_deadline and now >= note.hard_deadline]
            if child.state == "killed":
                continue
            if over:
                locations = ", ".join(note.location.decode("utf-8", "replace") for note in over[:5])
                text = "worker %s is killed: hard time limit of %d task(s), at %s"
                logger.error(text, child.worker, len(over), locations, extra=child.about)
                child.state, child.over_limit = "killed", over
                child.kill()
            elif late or (child.kill_at is not None and now > child.kill_at):
                logger.error("worker %s is killed: it did not end in time", child.worker, extra=child.about)
                child.state, self._exit_code = "killed", 1
                child.kill()

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _obey_register(self) -> None:
        """Beats, and passes on what was asked of the children meanwhile."""
        replies = self._heartbeat.tick(self._children)
        for child in self._children:
            requests = replies.get(child.worker, [])
            if requests is None:
                child.send("retire it was declared dead")
                continue
            for request in requests:
                self._pass_on(child, request)

    def _pass_on(self, child: TaskChild, request: str) -> None:
        """An operator's request may come twice. A child that makes way for another one has that already."""
        child.send(request)
        if request == "stop" and child.kill_at is None:
            child.last = child.lasting
            child.kill_at = time.monotonic() + self.options.shutdown_timeout + KILL_AFTER
            child.change_state("stopping")
            logger.info("worker %s is told to stop, and is not replaced", child.worker, extra=child.about)
        elif request == "quiet" and child.state == "running":
            child.last = True
            child.change_state("quiet")
            logger.info("worker %s is told to be quiet: it claims nothing more", child.worker, extra=child.about)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        signals, self._signals = self._signals, 0
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self.options.shutdown_timeout
            self._notifier.stopping()
            logger.info("worker stops: running tasks have %.0f s to finish", self.options.shutdown_timeout)
            for child in self._children:
                child.send("stop")
            signals -= 1
        if signals > 0:
            self._stop_at = time.monotonic()
            logger.info("worker stops now: running tasks go to other workers")
            for child in self._children:
                child.send("hurry")

    def _over(self) -> bool:
        if self._children:
            return False
        return self._stop_at is not None or self._finished >= self.options.processes

    def _end_maintenance(self) -> None:
        self._graves.hand_on()
        maintenance = self._maintenance
        if maintenance is None:
            return
        maintenance.send("stop")
        maintenance.process.join(MAINTENANCE_PATIENCE)
        if maintenance.process.exitcode is None:
            logger.error("the maintenance process is killed: it did not end in time")
            maintenance.kill()
            maintenance.process.join()
