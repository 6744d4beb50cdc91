"""`manage.py taskq_prune`: deletes old records now, as workers do by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_taskq.conf import get_settings
from django_taskq.retention import prune


class Command(BaseCommand):
    help = (
        "Deletes records beyond RETENTION and RETENTION_MAX_ROWS, in small transactions, as workers do by themselves."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Bounds for this one time."""
        parser.add_argument("--days", type=float, help="keep results this many days (default: RETENTION)")
        parser.add_argument("--failed-days", type=float, help="keep failures and dead letters this many days")
        parser.add_argument("--max-rows", type=int, help="keep this many results at most (default: RETENTION_MAX_ROWS)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prunes once and says how much."""
        settings = get_settings()
        changes: dict[str, Any] = {}
        if options["days"] is not None:
            changes["retention"] = timedelta(days=options["days"])
        if options["failed_days"] is not None:
            changes["retention_failed"] = timedelta(days=options["failed_days"])
        if options["max_rows"] is not None:
            changes["retention_max_rows"] = options["max_rows"]
        deleted = prune(settings=replace(settings, **changes), progress=self._progress)
        self.stdout.write(f"{deleted['TaskResult']} results and {deleted['DeadTask']} dead letters are deleted.")

    _seen = 0

    def _progress(self, count: int) -> None:
        if self.stderr.isatty():
            self._seen += count
            self.stderr.write(f"\r{self._seen} rows", ending="")
