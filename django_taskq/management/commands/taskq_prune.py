"""`manage.py taskq_prune`: deletes old records now, as workers do by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from django_taskq.conf import get_settings
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.management.progress import Progress
from django_taskq.retention import prune

MOST_DAYS = 36_500.0


class Command(TaskqCommand):
    help = (
        "Deletes records beyond RETENTION and RETENTION_MAX_ROWS, in small transactions, as workers do by themselves. "
        "The options overrule the settings for this one time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Bounds for this one time."""
        days: dict[str, Any] = {"type": at_least(0.0, MOST_DAYS), "metavar": "N"}
        parser.add_argument("--days", **days, help="keep results this many days (default: RETENTION)")
        parser.add_argument("--failed-days", **days, help="keep failures and dead letters this many days")
        parser.add_argument(
            "--max-rows",
            type=at_least(0),
            metavar="N",
            help="keep this many results at most (default: RETENTION_MAX_ROWS)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prunes once and says how much."""
        changes: dict[str, Any] = {}
        if options["days"] is not None:
            changes["retention"] = timedelta(days=options["days"])
        if options["failed_days"] is not None:
            changes["retention_failed"] = timedelta(days=options["failed_days"])
        if options["max_rows"] is not None:
            changes["retention_max_rows"] = options["max_rows"]
        with Progress(self.stderr, "deleted") as progress:
            deleted = prune(settings=replace(get_settings(), **changes), progress=progress.add)
        self.stdout.write(f"{deleted['TaskResult']} results and {deleted['DeadTask']} dead letters are deleted.")
