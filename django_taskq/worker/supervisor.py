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
from django_taskq.broker.workers import Workers
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.signals import worker_started, worker_stopped
from django_taskq.worker.exporting import Glance, glance_at
from django_taskq.worker.graves import Graves
from django_taskq.worker.heartbeat import Heartbeat
from django_taskq.worker.notifier import Notifier
from django_taskq.worker.nursery import Nursery
from django_taskq.worker.tally import Increments, Tally

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.worker.children import Inherited, TaskChild
    from django_taskq.worker.exporting import Exporter
    from django_taskq.worker.options import WorkerOptions

logger = logging.getLogger("django_taskq.worker")

TICK = 0.25  # seconds
PATIENCE = 1.0  # seconds it may take Redis to answer
KILL_AFTER = 8.0  # seconds beyond the shutdown timeout


class Supervisor:
    """`run()` returns the exit code: 0, or 1 when a child had to be killed at the end.

    `exporter` serves what the children count, `increments` is the sum of it.
    """

    def __init__(self, broker: Broker, options: WorkerOptions, exporter: Exporter | None = None) -> None:
        self.broker, self.options, self._exporter = broker, options, exporter
        self._tally, self.increments = Tally(), Increments()
        # It waits for Redis in the thread that enforces limits and obeys signals, so it does not wait for long.
        hasty = Location(get_settings(), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        workers = Workers(Connections(hasty), broker.keys)
        self._heartbeat = Heartbeat(workers)
        self._notifier = Notifier()
        self._graves = Graves(broker, workers, self._tally)
        self._nursery = Nursery(broker, self._graves, self.increments)
        self._stop_at: float | None = None  # monotonic seconds, once it stops: when running tasks go to others
        self._signals = 0
        self._wakeup = os.pipe()

    def run(self) -> int:
        """Until it is stopped, or a burst is over."""
        try:
            return self._serve()
        except BaseException:
            # It must be seen to have failed: its children finish what they run, as after its death, and it ends.
            for inherited in (*self._nursery.pipes(), *self._inherited()):
                inherited.close()
            raise

    def _inherited(self) -> list[Inherited]:
        """What a child closes, besides the pipes to its siblings."""
        return [self._exporter] if self._exporter else []

    def _serve(self) -> int:
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._catch_signals()
        self._greet(name)
        worker_started.send_robust(name, queues=list(self.options.queues))
        while True:
            if self._stop_at is None:
                self._nursery.start_missing(self.options, self._inherited())
            if self._over():
                break
            self._wait()
            self._nursery.bury_dead(stopping=self._stop_at is not None)
            self._nursery.enforce(late=self._stop_at is not None and time.monotonic() > self._stop_at + KILL_AFTER)
            self._obey_register()
            serving = sum(child.registered and child.lasting for child in self._nursery.tasks)
            self._notifier.tick(serving, self.options.processes, away=self._heartbeat.away)
            self._graves.hand_on()
        self._graves.hand_on()
        self._nursery.end_maintenance()
        worker_stopped.send_robust(name)
        logger.info("worker %s stopped", name, extra={"worker": name})
        return self._nursery.exit_code

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

    def _wait(self) -> None:
        """For a child, a signal, somebody who asks for metrics, or the next round."""
        children, own = self._nursery.everybody(), [self._wakeup[0]]
        if self._exporter is not None:
            own.append(self._exporter.fileno())
        ready = wait([*own, *self._nursery.pipes(), *(child.process.sentinel for child in children)], TICK)
        if self._wakeup[0] in ready:
            os.read(self._wakeup[0], 4096)
        for child in children:
            if child.pipe in ready:
                self._nursery.listen(child)
        if self._exporter is not None:
            self._exporter.serve(self)
        if self._signals:
            self._stop()

    @property
    def metrics_token(self) -> bytes | None:
        """As View.metrics_token."""
        return self._nursery.metrics_token

    def glance(self) -> Glance:
        """What the exporter shows of this worker now."""
        self.increments.merge(self._tally.take())
        return glance_at(self.options, self._nursery.tasks, self._nursery.maintenance, self._heartbeat)

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _obey_register(self) -> None:
        """Beats, and passes on what was asked of the children meanwhile."""
        replies = self._heartbeat.tick(self._nursery.tasks)
        for child in self._nursery.tasks:
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
            self._nursery.tell_tasks("stop")
            signals -= 1
        if signals > 0:
            self._stop_at = time.monotonic()
            logger.info("worker stops now: running tasks go to other workers")
            self._nursery.tell_tasks("hurry")

    def _over(self) -> bool:
        if self._nursery.tasks:
            return False
        return self._stop_at is not None or self._nursery.finished >= self.options.processes
