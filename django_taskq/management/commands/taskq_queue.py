"""`manage.py taskq_queue`: pause, resume and purge a queue; pause and resume a task."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.conf import get_settings
from django_taskq.management.command import TaskqCommand
from django_taskq.management.progress import Progress
from django_taskq.registry import all_tasks, lookup
from django_taskq.values import close_match


class Command(TaskqCommand):
    help = (
        "pause: workers claim nothing more from the queue, what runs goes on. resume: undoes that. "
        "purge: cancels everything that waits in the queue or is scheduled for it; what runs goes on. "
        "With --task instead of a queue, pause and resume are about calls of that task, in all queues."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The action and its queue."""
        parser.add_argument("action", choices=("pause", "resume", "purge"))
        parser.add_argument("queue", nargs="?", help="its name, as in TASKQ['QUEUES']")
        parser.add_argument("--task", metavar="NAME", help="pause or resume this task instead of a queue")
        parser.add_argument("--yes", action="store_true", help="purge without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Does it, and says what changed."""
        action, queue = options["action"], options["queue"]
        if (options["task"] is None) == (queue is None):
            raise CommandError("Give the name of a queue, or --task and the name of a task.")
        if options["task"] is not None:
            self._task(action, options["task"])
            return
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

    def _task(self, action: str, task: str) -> None:
        inspector = Inspector(get_broker())
        if action == "purge":
            raise CommandError("purge is for queues; the calls of one task can be cancelled one by one.")
        if action == "pause":
            if lookup(task) is None:
                raise CommandError(
                    f"No task is called {task!r}.{close_match(task, [known.name for known in all_tasks()])}"
                )
            self._say(inspector.pause_task(task), f"Task {task} is paused.", f"Task {task} was paused before.")
        else:
            self._say(inspector.resume_task(task), f"Task {task} is resumed.", f"Task {task} was not paused.")

    def _say(self, changed: bool, text: str, otherwise: str) -> None:
        self.stdout.write(text if changed else otherwise)

    def _purge(self, inspector: Inspector, queue: str, *, certain: bool) -> None:
        [state] = inspector.queues([queue])
        count = state.ready + state.scheduled + state.blocked
        if not certain:
            self.confirm(f"Cancel {count:,} tasks of the queue {queue}?", answer=queue)
        with Progress(self.stderr, "cancelled", count) as progress:
            purged = inspector.purge(queue, progress=progress.reach)
        self.stdout.write(f"{purged} tasks of the queue {queue} are cancelled.")
