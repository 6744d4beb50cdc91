"""`manage.py taskq_worker`: parses the options and runs the supervisor."""

from __future__ import annotations

import logging
import os
import sys
from argparse import BooleanOptionalAction
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, connections

from django_taskq import outbox
from django_taskq.broker import get_broker
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.relay import drain
from django_taskq.worker.exporting import Exporter
from django_taskq.worker.options import WorkerOptions
from django_taskq.worker.queue_list import parse_queues
from django_taskq.worker.reload import run_reloading
from django_taskq.worker.supervisor import Supervisor

logger = logging.getLogger("django_taskq.worker")


def show_log() -> None:
    """Where LOGGING says nothing about this package, its log goes to standard error."""
    logger = logging.getLogger("django_taskq")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _reloads(options: dict[str, Any]) -> bool:
    """Whether it watches the code: as asked, else where somebody develops, as `runserver` does."""
    if options["reload"] is not None:
        return bool(options["reload"])
    return settings.DEBUG and sys.stderr.isatty() and not options["burst"]


class Command(TaskqCommand):
    help = "Runs tasks until it is stopped. Start it on as many machines as you like."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options of DEFAULTS in docs/configuration.md."""
        add = parser.add_argument
        add(
            "--queues", metavar="A,B",
            help="serve A before B, or A:6,B:3 by weight (default: all declared queues, in turn)",
        )  # fmt: skip
        add("--processes", type=at_least(1), default=1, metavar="N", help="task processes (default: 1)")
        add(
            "--threads", type=at_least(1), default=8, metavar="N",
            help="threads for sync tasks in each process (default: 8)",
        )  # fmt: skip
        add(
            "--async-concurrency", type=at_least(1), default=200, metavar="N",
            help="async tasks at once in each process (default: 200)",
        )  # fmt: skip
        add("--burst", action="store_true", help="end when nothing is ready; what is scheduled later is not waited for")
        add("--max-tasks", type=at_least(1), metavar="N", help="replace a process after N tasks")
        add("--max-memory", type=at_least(1), metavar="MB", help="replace a process that uses more memory")
        add(
            "--shutdown-timeout", type=at_least(0), default=25, metavar="SECONDS",
            help="time for running tasks after SIGTERM (default: 25)",
        )  # fmt: skip
        add(
            "--metrics-port", type=at_least(0, 65_535), metavar="P",
            help="serve /metrics and /healthz on this port; 0: a free one (default: not at all)",
        )  # fmt: skip
        add(
            "--metrics-address", default="127.0.0.1", metavar="ADDRESS",
            help="where --metrics-port listens (default: 127.0.0.1)",
        )  # fmt: skip
        add(
            "--reload", action=BooleanOptionalAction,
            help="restart when the project's code changes (default: where DEBUG is on, on a terminal, without --burst)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs until SIGTERM or Ctrl-C; a second one hurries."""
        show_log()
        if _reloads(options) and os.environ.get("DJANGO_TASKQ_RELOADED") != "1":
            os.environ["DJANGO_TASKQ_RELOADED"] = "1"
            sys.exit(run_reloading([sys.executable, *sys.argv]))
        import django_taskq.bench.tasks  # noqa: F401  (every worker runs what taskq_bench sends)

        mode = get_settings().mode
        if mode != "broker":
            raise CommandError(f"TASKQ['MODE'] is {mode!r}: tasks stay in the process that sends them, for tests.")
        worker = _worker_options(options)
        exporter = self._exporter(options["metrics_address"], options["metrics_port"]) if worker.metered else None
        if worker.burst and outbox.in_use():
            self._empty_outboxes()
        sys.exit(Supervisor(get_broker(), worker, exporter).run())

    def _empty_outboxes(self) -> None:
        """A burst ends when nothing is ready: what has been committed before it is to be ready when it begins."""
        try:
            drain(get_broker())
        except (TaskqError, DatabaseError, InterfaceError) as error:
            logger.warning("a burst begins with tasks in the outbox: %s", error)
        connections.close_all()

    def _exporter(self, address: str, port: int) -> Exporter:
        try:
            from django_taskq.metrics.exporter import MetricsExporter
        except ModuleNotFoundError as error:
            raise CommandError(
                f"--metrics-port: {error.name} is not installed. pip install 'django-taskq-redis[metrics]'"
            ) from error
        token = get_settings().metrics_token
        try:
            exporter = MetricsExporter(address, port, token)
        except OSError as error:
            raise CommandError(f"--metrics-port: cannot listen at {address}, port {port}: {error}") from error
        except ValueError as error:
            raise CommandError(f"--metrics-port: {error}.") from error
        guard = "with a token" if token is not None else "to whoever can connect"
        logger.info("metrics and health at %s, port %d, %s", address, exporter.port, guard)
        return exporter


def _worker_options(options: dict[str, Any]) -> WorkerOptions:
    declared = get_settings().queues
    try:
        queues, weights = parse_queues(options["queues"] or ",".join(declared), declared)
    except ValueError as error:
        raise CommandError(f"--queues: {error}.") from error
    return WorkerOptions(
        queues, ordered=bool(options["queues"]), weights=weights, processes=options["processes"],
        threads=options["threads"], async_concurrency=options["async_concurrency"], burst=options["burst"],
        max_tasks=options["max_tasks"], max_memory=options["max_memory"],
        shutdown_timeout=float(options["shutdown_timeout"]), max_outcomes=get_settings().max_outcomes,
        metered=options["metrics_port"] is not None,
    )  # fmt: skip
