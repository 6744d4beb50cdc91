"""`manage.py taskq_periodic`: periodic tasks, listed, enabled, disabled, run now."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_taskq.management.command import TaskqCommand
from django_taskq.management.periodic import facts, periodic_table
from django_taskq.periodic.actions import redis_now, run_now, set_enabled
from django_taskq.periodic.status import statuses
from django_taskq.periodic.sync import rows
from django_taskq.periodic_task import PeriodicTask

NONE = "No periodic tasks. Declare one with @task(cron=...) or @task(every=...); a worker adds it when it starts."


class Command(TaskqCommand):
    help = "Lists periodic tasks, enables and disables them, and runs one now."

    def add_arguments(self, parser: CommandParser) -> None:
        """Names are those that `list` shows."""
        parser.add_argument("action", choices=["list", "enable", "disable", "run"])
        parser.add_argument("names", nargs="*", metavar="NAME", help="as `list` shows them; without names it shows all")
        parser.add_argument("--json", action="store_true", help="list as JSON; times are epoch seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuses names that there are not, before anything is done."""
        action, names = options["action"], options["names"]
        found = {row.name: row for row in rows().filter(name__in=names)} if names else {}
        if missing := [name for name in names if name not in found]:
            raise CommandError(f"There is no periodic task {', '.join(map(repr, missing))}.")
        if action == "list":
            now = redis_now()
            listed = statuses(now, [found[name] for name in names] if names else None)
            text = json.dumps([facts(status) for status in listed]) if options["json"] else periodic_table(listed, now)
            self.stdout.write(text or NONE)
            return
        if not names:
            raise CommandError(f"Which? `taskq_periodic {action} NAME ...`; `taskq_periodic list` shows the names.")
        for name in names:
            self.stdout.write(_act(action, found[name]))


def _act(action: str, row: PeriodicTask) -> str:
    if action == "run":
        return f"{row.name}: sent as {run_now(row).id}"
    changed = set_enabled(row, action == "enable")
    removed = ", but it was removed from the code" if row.removed_at is not None else ""
    return f"{row.name}: {'' if changed else 'was '}{action}d{removed}"
