"""`manage.py taskq_status`: queues, workers and running tasks."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.gates import BreakerState
from django_taskq.broker.inspector import Progress, QueueState, RunningTask, WorkerState
from django_taskq.conf import max_length_of
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.management.command import TaskqCommand, at_least, until_ctrl_c
from django_taskq.management.periodic import facts, periodic_table
from django_taskq.management.status import Seen, look
from django_taskq.management.table import span, table

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.outbox import Backlog

BAR = 10  # characters
ADVICE = 1.5  # seconds that it can be read
AWAY = "The database cannot be asked: periodic tasks and outboxes are not shown."
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


class Command(TaskqCommand):
    help = "Shows queues, workers and running tasks. Exit code 1 when Redis cannot be reached."

    def add_arguments(self, parser: CommandParser) -> None:
        """--json is for programs: its keys are stable."""
        parser.add_argument("--json", action="store_true", help="print one JSON object; times are epoch seconds")
        parser.add_argument(
            "--watch",
            type=at_least(0.1, 86_400.0),
            nargs="?",
            const=2.0,
            metavar="SECONDS",
            help="look again every so many seconds (2), until Ctrl-C; on a terminal a live view with keys",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Looks once, or again and again."""
        broker, as_text_or_json = get_broker(), as_json if options["json"] else as_text
        if options["watch"] is None:
            self.stdout.write(as_text_or_json(look(broker)))
            return
        if not options["json"] and self.stdout.isatty() and sys.stdin.isatty() and self._live(broker, options["watch"]):
            return
        with until_ctrl_c() as asked_to_end:
            while not asked_to_end.is_set():
                try:
                    text = as_text_or_json(look(broker))
                except BrokerUnavailable as error:
                    text = json.dumps({"error": str(error)}) if options["json"] else str(error)
                self._show(text, apart=not options["json"])
                time.sleep(options["watch"])

    def _live(self, broker: Broker, every: float) -> bool:
        """The live view, until it is left; False where it is not installed."""
        try:
            from django_taskq.management.live.view import LiveView
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("rich", "textual"):
                raise
            self.stderr.write("For a live view with keys: pip install 'django-taskq-redis[watch]'", style_func=str)
            time.sleep(ADVICE)
            return False
        logging.disable()  # a line of it would be written across the view
        try:
            LiveView(broker, every).run()
        finally:
            logging.disable(logging.NOTSET)
        return True

    def _show(self, text: str, *, apart: bool) -> None:
        """In place on a terminal, one after the other in a pipe."""
        terminal = self.stdout.isatty()
        self.stdout.write(f"{CLEAR if terminal else ''}{text}{chr(10) * (apart and not terminal)}")
        self.stdout.flush()


def as_json(seen: Seen) -> str:
    """Everything, with the field names of the inspector."""
    now, lag, queues, workers, outboxes, periodic, paused, breakers = seen
    return json.dumps(
        {
            "time": now,
            "recorder_lag": lag,
            "paused_tasks": paused,
            "breakers": [breaker._asdict() for breaker in breakers],
            "outboxes": [backlog._asdict() for backlog in outboxes],
            "queues": [queue._asdict() for queue in queues],
            "workers": [
                worker._asdict() | {"running": [_running(task) for task in worker.running]} for worker in workers
            ],
            "periodic": None if periodic is None else [facts(status) for status in periodic],
        }
    )


def _running(task: RunningTask) -> dict[str, Any]:
    return task._asdict() | {"progress": None if task.progress is None else task.progress._asdict()}


def as_text(seen: Seen) -> str:
    """Tables, and what is missing where one is empty."""
    now, lag, queues, workers, outboxes, periodic, paused, breakers = seen
    of_queues = table(
        ("QUEUE", "READY", "RUNNING", "SCHEDULED", "BLOCKED", "OLDEST", "NEXT DUE", ""),
        [
            (
                queue.name, queue.ready, queue.running, queue.scheduled, queue.blocked,
                span(_since(now, queue.oldest)),
                "-" if queue.next_due is None else span(queue.next_due - now), _remarks(queue),
            )
            for queue in queues
        ],
        right=(1, 2, 3, 4, 5, 6),
    )  # fmt: skip
    of_workers = table(
        ("WORKER", "STATE", "QUEUES", "BUSY", "SETTLED", "MEMORY", "BEAT"),
        [
            (
                worker.id, worker.state, ",".join(worker.served), f"{len(worker.running)}/{worker.threads}",
                worker.settled, f"{worker.rss / 1e6:.0f} MB", span(_since(now, worker.beat)),
            )
            for worker in workers
        ],
        right=(3, 4, 5, 6),
    )  # fmt: skip
    of_tasks = table(
        ("RUNNING", "ID", "QUEUE", "ATTEMPT", "FOR", "PROGRESS", "WORKER"),
        [
            (
                task.task, task.id, task.queue, task.attempt, span(now - task.since), _bar(task.progress), worker.id,
            )
            for worker in workers
            for task in worker.running
        ],
        right=(3, 4),
    )  # fmt: skip
    parts = [of_queues, of_workers or "No worker is registered: start one with `manage.py taskq_worker`.", of_tasks]
    parts.append(AWAY if periodic is None else periodic_table(periodic, dt.datetime.fromtimestamp(now, dt.UTC)))
    parts += [_unrecorded(lag, workers), *map(_unsent, outboxes)]
    parts += [_broken(now, breaker) for breaker in breakers if breaker.state != "closed"]
    if paused:
        parts.append(f"Paused tasks: {', '.join(paused)}.")
    return "\n\n".join(part for part in parts if part)


def _remarks(queue: QueueState) -> str:
    most = max_length_of(queue.name)
    remarks = ["paused"] if queue.paused else []
    if most is not None:
        remarks.append(f"{'full: ' if queue.ready + queue.scheduled + queue.blocked >= most else ''}{most} may wait")
    return ", ".join(remarks)


def _broken(now: float, breaker: BreakerState) -> str:
    if breaker.state == "half open":
        return f"The circuit breaker {breaker.name} is half open: the next call decides."
    return f"The circuit breaker {breaker.name} is open, and tried again in {span((breaker.until or now) - now)}."


def _unrecorded(lag: int, workers: list[WorkerState]) -> str:
    bound = min((worker.max_outcomes for worker in workers if worker.max_outcomes and not worker.dead), default=None)
    if bound is not None and lag >= bound:
        return (
            f"{lag} outcomes wait for the database, and MAX_OUTCOMES is {bound}: workers claim nothing until some are "
            "recorded. Is the database away, or no maintenance process running?"
        )
    return f"{lag} outcomes wait for the database." if lag else ""


def _unsent(backlog: Backlog) -> str:
    lines = []
    if backlog.waiting:
        lines.append(f"{backlog.waiting} tasks wait in the outbox of {backlog.database!r}, for {span(backlog.oldest)}.")
    if backlog.refused:
        lines.append(f"{backlog.refused} tasks in the outbox of {backlog.database!r} were refused: see the admin.")
    return "\n".join(lines)


def _bar(progress: Progress | None) -> str:
    """`[####......]  40% resizing`, or how many where nobody knows of how many."""
    if progress is None:
        return "-"
    share, text = progress.share, " ".join(progress.text.split())
    if share is None:
        return f"{progress.current:g} {text}".rstrip()
    filled = round(share * BAR)
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {share:4.0%} {text}".rstrip()


def _since(now: float, moment: float | None) -> float | None:
    return None if moment is None else now - moment
