"""One task process: assembles claimer, pools and settler, and obeys its supervisor until it is done."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from django_taskq import producer
from django_taskq.broker.deliveries import Deliveries
from django_taskq.broker.health import DEFAULT_MAX_OUTCOMES
from django_taskq.broker.workers import Workers
from django_taskq.conf import get_settings
from django_taskq.core.gates import pack_queue_gates
from django_taskq.kept_log import capture
from django_taskq.registry import all_tasks
from django_taskq.worker.batches import settlements_of
from django_taskq.worker.cancellations import Cancellations
from django_taskq.worker.claimer import Claimer
from django_taskq.worker.clock import Clock
from django_taskq.worker.distributor import Distributor
from django_taskq.worker.executor import Executor
from django_taskq.worker.held import Held
from django_taskq.worker.loop import LoopPool
from django_taskq.worker.pools import ThreadPool
from django_taskq.worker.process_info import rss
from django_taskq.worker.register_entry import RegisterEntry
from django_taskq.worker.reporter import Reporter
from django_taskq.worker.settler import Settler
from django_taskq.worker.starts import Starts
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
        self.worker, self.options, self._pipe = worker, options, pipe
        self._reporter = Reporter(pipe)
        self._tally = Tally() if options.metered else None
        settings, connections, keys = get_settings(), broker.connections, broker.keys
        self._register_entry = RegisterEntry(Workers(connections, keys), worker, options, notes)
        self._held = Held()
        room = threading.Event()
        deliveries = Deliveries(
            keys, worker, options.queues, ordered=options.ordered, weights=options.weights,
            max_outcomes=options.max_outcomes or DEFAULT_MAX_OUTCOMES, gates=pack_queue_gates(settings.queues),
        )  # fmt: skip
        if settings.capture_logs is not None:
            capture(settings.capture_logs)
        clock = Clock()
        self._settler = Settler(connections, deliveries, self._held, self._tally)
        self._executor = executor = Executor(worker, keys, settings, clock, Starts(connections, keys, settings.queues))
        self._threads = ThreadPool(options.threads, executor, notes, self._settler.put, room)
        self._loop = LoopPool(options.async_concurrency, executor, notes, 2 * options.threads, self._settler.put, room)
        self._limits = TimeLimits(self._threads, self._loop, executor, self._settler.put, self._retire)
        self._cancellations = Cancellations(self._held, self._limits)
        distributor = Distributor(self._threads, self._loop, self._settler.put)
        self._claimer = Claimer(
            connections, deliveries, self._held, distributor, clock, room, self._register,
            most=options.max_tasks, burst=options.burst,
        )  # fmt: skip
        self._draining_until: float | None = None  # monotonic seconds; inf: until everything is done
        self._sigterm = False
        self._orphaned = False
        self._told, self._report_at = 0, 0.0

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
            self._follow_claimer()
            self._limits.check()
            self._cancellations.check()
            self._report()
        self._finish()

    def _terminated(self, *_: Any) -> None:
        self._sigterm = True  # nothing more: the thread that was interrupted may hold any lock

    def _listen(self) -> None:
        if self._orphaned:
            time.sleep(TICK)
            for request in self._register_entry.beat():
                self._obey(request)
            return
        try:
            for _ in wait([self._pipe], TICK):
                self._obey(self._pipe.recv())
        except (EOFError, OSError):
            self._orphaned = True
            logger.error(
                "worker %s has lost its supervisor: it finishes what it runs and ends, and must be started again",
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
            self._cancellations.ask(rest.encode())

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
            self._reporter.tell("retiring", why)
            self._drain(float("inf"))

    def _follow_claimer(self) -> None:
        """What becomes of this process when its claimer has ended by itself."""
        ended = self._claimer.ended
        if ended is None:
            return
        self._claimer.ended = None  # only now: its thread may say why at any moment
        if ended == "idle":
            self._reporter.tell("idle")
            self._drain(float("inf"))
        elif ended == "enough":
            self._retire(f"it has been given {self.options.max_tasks} tasks (--max-tasks)")
        elif ended == "crowded":
            self._retire("a task that has cost two workers is to run alone, and other tasks run here")
        elif ended == "refused":
            logger.error(
                "worker %s was declared dead: its tasks went to others; it makes way for a new worker",
                self.worker, extra={"worker": self.worker},
            )  # fmt: skip
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
        self._reporter.tell("ended")
        if self._orphaned:
            self._register_entry.leave()

    def _register(self) -> None:
        self._register_entry.enter()
        self._reporter.tell("registered")

    def _report(self) -> None:
        """Once a second: what was settled and counted, and whether that took too much memory."""
        now, options, settled = time.monotonic(), self.options, self._settler.settled
        if now < self._report_at:
            return
        self._report_at = now + 1.0
        if self._tally is not None:
            self._reporter.count(self._tally.take())
        if settled == self._told:
            return
        self._told = settled
        self._reporter.tell("settled", settled)
        if options.max_memory is not None and rss(os.getpid()) > options.max_memory * 1_000_000:
            self._retire(f"it uses more than {options.max_memory} MB (--max-memory)")
