"""`manage.py taskq_queue`: pause, resume and purge a queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.conf import get_settings
from django_taskq.management.command import TaskqCommand
from django_taskq.management.progress import Progress


class Command(TaskqCommand):
    help = (
        "pause: workers claim nothing more from the queue, what runs goes on. resume: undoes that. "
        "purge: cancels everything that waits in the queue or is scheduled for it; what runs goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The action and its queue."""
        parser.add_argument("action", choices=("pause", "resume", "purge"))
        parser.add_argument("queue", help="its name, as in TASKQ['QUEUES']")
        parser.add_argument("--yes", action="store_true", help="purge without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Does it, and says what changed."""
        action, queue = options["action"], options["queue"]
        declared = get_settings().queues
        if queue not in declared:
            raise CommandError(f"{queue!r} is not declared in TASKQ['QUEUES'] ({', '.join(sorted(declared))}).")
        inspector = Inspector(get_broker())
        if action == "pause":
            self._say(inspector.pause(queue), f"Queue {queue} is paused.", f"Queue {queue} was paused before.")
        elif action == "resume":
            self._say(inspector.resume(queue), f"Queue {queue} is resumed.", f"Queue {queue} was not paused.")
        else:
            self._purge(inspector, queue, certain=options["yes"])

    def _say(self, changed: bool, text: str, otherwise: str) -> None:
        self.stdout.write(text if changed else otherwise)

    def _purge(self, inspector: Inspector, queue: str, *, certain: bool) -> None:
        [state] = inspector.queues([queue])
        count = state.ready + state.scheduled
        if not certain:
            self.confirm(f"Cancel {count:,} tasks of the queue {queue}?", answer=queue)
        with Progress(self.stderr, "cancelled", count) as progress:
            purged = inspector.purge(queue, progress=progress.reach)
        self.stdout.write(f"{purged} tasks of the queue {queue} are cancelled.")
