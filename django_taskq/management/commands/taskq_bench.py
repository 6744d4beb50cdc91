"""`manage.py taskq_bench`: a load test on the project's own settings."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.management.base import CommandError, CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.census import SILENT
from django_taskq.broker.inspector import Inspector
from django_taskq.conf import get_settings
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.management.own_worker import own_worker
from django_taskq.management.progress import Progress

if TYPE_CHECKING:
    from django_taskq.broker import Broker


class Command(TaskqCommand):
    help = (
        "A load test on this project's settings, Redis, database and workers: sends tasks that do nothing through a "
        "queue, waits until they have ended, and says how fast that was and whether each ended exactly once. Removes "
        "its records afterwards. Exit code 1 when one did not end exactly once, or no worker answers."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What to send, and who runs it."""
        add = parser.add_argument
        add("--tasks", type=at_least(1), default=10_000, metavar="N", help="how many to send (default: 10000)")
        add("--payload", type=at_least(0), default=100, metavar="BYTES", help="size of the argument (default: 100)")
        add("--queue", help="through this queue (default: the first of TASKQ['QUEUES'])")
        add("--worker", action="store_true", help="start a worker for the time of the test, with default options")
        add(
            "--timeout",
            type=at_least(0.1, 86_400.0),
            default=30.0,
            metavar="SECONDS",
            help="give up when nothing has ended for so long (default: 30)",
        )
        add("--json", action="store_true", help="print one JSON object")
        add("--yes", action="store_true", help="do not ask, even where DEBUG is off")

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs the test and prints what it found."""
        from django_taskq.bench.load import LoadTest, NoAnswer, Plan

        declared = list(get_settings().queues)
        queue = options["queue"] or declared[0]
        if queue not in declared:
            raise CommandError(f"--queue: {queue!r} is not declared in TASKQ['QUEUES'] ({', '.join(declared)}).")
        if not django_settings.DEBUG and not options["yes"]:
            self.confirm(
                f"DEBUG is off: is this production? {options['tasks']:,} tasks would go through the queue {queue!r}, "
                "and real ones wait behind them."
            )
        broker = get_broker()
        plan = Plan(queue, options["tasks"], options["payload"], options["timeout"])
        with ExitStack() as stack:
            if options["worker"]:
                stack.enter_context(own_worker(broker, queue))
            workers = _workers(broker, queue)
            try:
                report = LoadTest(broker, plan, workers, self._bar).run()
            except NoAnswer as error:
                raise CommandError(
                    f"{error} {workers} are registered for it; are they busy with other tasks?"
                ) from error
        self.stdout.write(json.dumps(report.as_json()) if options["json"] else report.as_text())
        if report.problems:
            sys.exit(1)

    def _bar(self, label: str, total: int) -> Progress:
        return Progress(self.stderr, f"{label:<9}", total)


def _workers(broker: Broker, queue: str) -> int:
    """How many task processes serve the queue; CommandError when there is none, or when it is paused."""
    inspector, now = Inspector(broker), broker.time()
    if inspector.queues([queue])[0].paused:
        raise CommandError(f"The queue {queue!r} is paused: `manage.py taskq_queue resume {queue}`.")
    serving = [
        worker
        for worker in inspector.workers()
        if queue in worker.queues and not worker.dead and now - (worker.beat or worker.started) < SILENT
    ]
    if not serving:
        raise CommandError(
            f"No worker serves the queue {queue!r}. Start one with `manage.py taskq_worker --queues {queue}`, or give "
            "--worker, which starts one for the time of the test."
        )
    return len(serving)
