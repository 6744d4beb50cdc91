"""One task process: assembles claimer, pools and settler, and obeys its supervisor until it is done."""

from __future__ import annotations

import logging
import os
import platform
import random
import signal
import socket
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import django

import django_taskq
from django_taskq import producer
from django_taskq.broker.deliveries import Deliveries
from django_taskq.broker.health import DEFAULT_MAX_OUTCOMES
from django_taskq.broker.workers import Beat, Workers
from django_taskq.conf import get_settings
from django_taskq.core.gates import pack_queue_gates
from django_taskq.exceptions import TaskqError
from django_taskq.logs import capture
from django_taskq.registry import all_tasks
from django_taskq.worker.batches import settlements_of
from django_taskq.worker.claimer import Claimer
from django_taskq.worker.clock import Clock
from django_taskq.worker.distributor import Distributor
from django_taskq.worker.executor import Executor
from django_taskq.worker.held import Held
from django_taskq.worker.loop import LoopPool
from django_taskq.worker.pools import ThreadPool
from django_taskq.worker.process_info import rss
from django_taskq.worker.reporter import Reporter
from django_taskq.worker.settler import Settler
from django_taskq.worker.tally import Tally
from django_taskq.worker.time_limits import TimeLimits

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.worker.loop import AsyncRun
    from django_taskq.worker.notes import Notes
    from django_taskq.worker.options import WorkerOptions
    from django_taskq.worker.slots import Slot
    from django_taskq.worker.work import Work

logger = logging.getLogger("django_taskq.worker")

TICK = 0.1  # seconds
ON_ITS_WAY = 15.0  # seconds that a claim's reply may take, or the comparison that finds what it brought
SETTLING = 5.0  # seconds that a process which ends goes on trying to settle while Redis is away


def notes_needed(options: WorkerOptions) -> int:
    """Slots of shared memory: every thread, as many replacements, every coroutine."""
    return 2 * options.threads + options.async_concurrency


def most_together() -> int:
    """Locations that a slot may start at once: the size of the largest batch."""
    return max((task.batching.size for task in all_tasks() if task.batching), default=1)


class TaskProcess:
    """Talks to its supervisor through `pipe`: words in; registered, settled n, counted what, retiring why, idle, ended
    out."""

    def __init__(self, broker: Broker, worker: str, options: WorkerOptions, notes: Notes, pipe: Connection) -> None:
        self.worker, self.options, self._pipe, self._notes = worker, options, pipe, notes
        self._reporter = Reporter(pipe)
        self._tally = Tally() if options.metered else None
        settings, connections, keys = get_settings(), broker.connections, broker.keys
        self._workers = Workers(connections, keys)
        self._held = Held()
        room = threading.Event()
        deliveries = Deliveries(
            keys,
            worker,
            options.queues,
            ordered=options.ordered,
            weights=options.weights,
            max_outcomes=options.max_outcomes or DEFAULT_MAX_OUTCOMES,
            gates=pack_queue_gates(settings.queues),
        )
        if settings.capture_logs is not None:
            capture(settings.capture_logs)
        clock = Clock()
        self._settler = Settler(connections, deliveries, self._held, self._tally)
        self._executor = executor = Executor(worker, keys, settings, clock)
        self._threads = ThreadPool(options.threads, executor, notes, self._settler.put, room)
        self._loop = LoopPool(options.async_concurrency, executor, notes, 2 * options.threads, self._settler.put, room)
        self._limits = TimeLimits(self._threads, self._loop, executor, self._settler.put, self._retire)
        distributor = Distributor(self._threads, self._loop, self._settler.put)
        self._claimer = Claimer(
            connections, deliveries, self._held, distributor, clock, room,
            most=options.max_tasks, register=self._register, idle=self._idle if options.burst else None,
            enough=self._enough, refused=self._refused, crowded=self._crowded,
        )  # fmt: skip
        self._draining_until: float | None = None  # monotonic seconds; inf: until everything is done
        self._sigterm = False
        self._orphaned = False
        self._asked_to_cancel: dict[bytes, float] = {}  # location -> until when it may still arrive here (monotonic)
        self._told, self._count_at = 0, 0.0
        self._beat_at = 0.0

    def run(self) -> None:
        """As a process of its own: until it is told to stop, or has reason to."""
        producer.set_counter(self._tally.sent if self._tally else None)
        random.seed()  # the fork copied the supervisor's state, and jitter must differ
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
        signal.signal(signal.SIGTERM, self._terminated)
        self.serve()

    def serve(self) -> None:
        """The same in whatever thread calls it."""
        self._claimer.start()
        while not self._done():
            self._listen()
            if self._sigterm:
                self._drain(self.options.shutdown_timeout)
            self._limits.check()
            self._cancel_asked_for()
            self._report()
        self._finish()

    def _terminated(self, *_: Any) -> None:
        self._sigterm = True  # nothing more: the thread that was interrupted may hold any lock

    def _listen(self) -> None:
        if self._orphaned:
            time.sleep(TICK)
            self._beat_for_itself()
            return
        try:
            for _ in wait([self._pipe], TICK):
                self._obey(self._pipe.recv())
        except (EOFError, OSError):
            self._orphaned = True
            logger.error(
                "worker %s has lost its supervisor: it finishes what it runs and ends",
                self.worker,
                extra={"worker": self.worker},
            )
            self._drain(float("inf"))

    def _obey(self, request: str) -> None:
        word, _, rest = request.partition(" ")
        if word == "stop":
            self._drain(self.options.shutdown_timeout)
        elif word == "hurry":
            self._drain(0.0)
        elif word == "quiet":
            self._stop_claiming()
        elif word == "retire":
            self._retire(rest)
        elif word == "cancel":
            self._asked_to_cancel[rest.encode()] = time.monotonic() + ON_ITS_WAY

    def _cancel_asked_for(self) -> None:
        """What runs is interrupted as soon as that is possible, what waits ends as soon as a thread takes it."""
        for location, until in list(self._asked_to_cancel.items()):
            delivery = self._held.get(location)
            if delivery is None:
                done = time.monotonic() >= until
            else:
                delivery.cancelled = True
                done = self._limits.cancel(location)
            if done:
                del self._asked_to_cancel[location]

    def _stop_claiming(self) -> None:
        if not self._claimer.stopping:
            threading.Thread(target=self._claimer.stop, name="taskq-stop", daemon=True).start()

    def _drain(self, seconds: float) -> None:
        self._stop_claiming()
        until = time.monotonic() + seconds
        self._draining_until = until if self._draining_until is None else min(until, self._draining_until)

    def _retire(self, why: str) -> None:
        """Claims nothing more and ends when its neighbours are done; the supervisor starts another at once."""
        if self._draining_until is None:
            self._tell("retiring", why)
            self._drain(float("inf"))

    def _idle(self) -> None:
        self._tell("idle")
        self._draining_until = float("inf")

    def _enough(self) -> None:
        self._retire(f"it has been given {self.options.max_tasks} tasks (--max-tasks)")

    def _crowded(self) -> None:
        self._retire("a task that has cost two workers is to run alone, and other tasks run here")

    def _refused(self) -> None:
        logger.error(
            "worker %s was declared dead: its tasks went to others; it makes way for a new worker",
            self.worker,
            extra={"worker": self.worker},
        )
        self._retire("it was declared dead")

    def _done(self) -> bool:
        if self._draining_until is None:
            return False
        if time.monotonic() >= self._draining_until:
            return True
        return not self._claimer.thread.is_alive() and not self._running() and not self._held

    def _running(self) -> bool:
        return bool(self._threads.busy or self._loop.busy or self._threads.waiting() or self._loop.waiting())

    def _finish(self) -> None:
        """What still runs goes back to other workers: nothing that happens to it here counts any more."""
        self._claimer.stop()
        running: list[tuple[Slot | AsyncRun, Work]] = [*self._threads.running(), *self._loop.running()]
        released = [work for place, work in running if place.abandon(work)]
        settlements = [each for work in released for each in settlements_of(self._executor.handed_on(work))]
        self._settler.put(settlements)
        if released:
            logger.warning(
                "worker %s released %d running tasks to other workers",
                self.worker,
                len(settlements),
                extra={"worker": self.worker},
            )
        self._settler.stop(SETTLING)
        if self._tally is not None:
            self._reporter.count(self._tally.take(), last=True)
        self._tell("ended")
        if self._orphaned:
            self._leave_register()

    def _leave_register(self) -> None:
        """What the supervisor does for its other children."""
        try:
            self._workers.declare_dead(self.worker, None, [])
            self._workers.reclaim(self.worker)
        except TaskqError as error:
            logger.warning(
                "worker %s ends without leaving the register: %s", self.worker, error, extra={"worker": self.worker}
            )

    def _report(self) -> None:
        if self._tally is not None and time.monotonic() >= self._count_at:
            self._count_at = time.monotonic() + 1.0
            self._reporter.count(self._tally.take())
        options, settled = self.options, self._settler.settled
        if settled == self._told or time.monotonic() < self._beat_at:
            return
        self._beat_at, self._told = time.monotonic() + 1.0, settled
        self._tell("settled", settled)
        if options.max_memory is not None and rss(os.getpid()) > options.max_memory * 1_000_000:
            self._retire(f"it uses more than {options.max_memory} MB (--max-memory)")

    def _tell(self, *words: object) -> None:
        self._reporter.tell(*words)

    def _register(self) -> None:
        self._workers.register(self.worker, describe(self.options))
        self._tell("registered")

    def _beat_for_itself(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + 1.0
            running = b"\n".join(note.location for note in self._notes.read())
            try:
                replies = self._workers.beat([Beat(self.worker, {"running": running.decode("utf-8", "replace")})])
            except TaskqError as error:
                logger.debug("beat: %s", error)
                return
            for request in replies[self.worker] or ():
                self._obey(request)


def describe(options: WorkerOptions) -> dict[str, str | int | float]:
    """What the register says about a worker."""
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "supervisor": os.getppid(),
        "version": django_taskq.__version__, "python": platform.python_version(),
        "django": django.get_version(), "queues": ",".join(options.queues), "threads": options.threads,
        "weights": ",".join(map(str, options.weights)), "max_outcomes": options.max_outcomes or DEFAULT_MAX_OUTCOMES,
        "async": options.async_concurrency, "started": int(time.time()), "running": "",
    }  # fmt: skip
