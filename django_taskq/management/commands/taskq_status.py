"""`manage.py taskq_status`: queues, workers and running tasks."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, QueueState, WorkerState
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.management.table import span, table


class Command(BaseCommand):
    help = "Shows queues, workers and running tasks. Exit code 1 when Redis cannot be reached."

    def add_arguments(self, parser: CommandParser) -> None:
        """--json is for programs: its keys are stable."""
        parser.add_argument("--json", action="store_true", help="print one JSON object; times are epoch seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        """Looks once."""
        broker = get_broker()
        inspector = Inspector(broker)
        try:
            now, lag = broker.time(), broker.recorder_lag()
            queues, workers = inspector.queues(get_settings().queues), inspector.workers()
        except TaskqError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(as_json(now, lag, queues, workers)))
        else:
            self.stdout.write(as_text(now, lag, queues, workers))


def as_json(now: float, lag: int, queues: list[QueueState], workers: list[WorkerState]) -> dict[str, Any]:
    """Everything, with the field names of the inspector."""
    return {
        "time": now,
        "recorder_lag": lag,
        "queues": [queue._asdict() for queue in queues],
        "workers": [worker._asdict() | {"running": [task._asdict() for task in worker.running]} for worker in workers],
    }


def as_text(now: float, lag: int, queues: list[QueueState], workers: list[WorkerState]) -> str:
    """Three tables, and what is missing where one is empty."""
    of_queues = table(
        ("QUEUE", "READY", "RUNNING", "SCHEDULED", "OLDEST", "NEXT DUE", ""),
        [
            (
                queue.name, queue.ready, queue.running, queue.scheduled, span(_since(now, queue.oldest)),
                "-" if queue.next_due is None else span(queue.next_due - now), "paused" if queue.paused else "",
            )
            for queue in queues
        ],
        right=(1, 2, 3, 4, 5),
    )  # fmt: skip
    of_workers = table(
        ("WORKER", "STATE", "QUEUES", "BUSY", "SETTLED", "MEMORY", "BEAT"),
        [
            (
                worker.id, worker.state, ",".join(worker.queues), f"{len(worker.running)}/{worker.threads}",
                worker.settled, f"{worker.rss / 1e6:.0f} MB", span(_since(now, worker.beat)),
            )
            for worker in workers
        ],
        right=(3, 4, 5, 6),
    )  # fmt: skip
    of_tasks = table(
        ("RUNNING", "ID", "QUEUE", "ATTEMPT", "FOR", "WORKER"),
        [
            (task.task, task.id, task.queue, task.attempt, span(now - task.since), worker.id)
            for worker in workers
            for task in worker.running
        ],
        right=(3, 4),
    )
    parts = [of_queues, of_workers or "No worker is registered: start one with `manage.py taskq_worker`.", of_tasks]
    parts.append(f"{lag} outcomes wait for the database." if lag else "")
    return "\n\n".join(part for part in parts if part)


def _since(now: float, moment: float | None) -> float | None:
    return None if moment is None else now - moment
