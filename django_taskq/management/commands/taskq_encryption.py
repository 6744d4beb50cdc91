"""`manage.py taskq_encryption`: makes keys, says which are in use, and seals rows again with the newest."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_taskq.conf import get_settings
from django_taskq.core.sealing import new_key
from django_taskq.keyring import get_keyring
from django_taskq.management.command import TaskqCommand
from django_taskq.management.progress import Progress
from django_taskq.management.table import table
from django_taskq.resealing import keys_in_database, keys_in_redis, reseal


class Command(TaskqCommand):
    help = (
        "new: print a random key for TASKQ['ENCRYPTION_KEYS']. usage: how much in Redis and in the database is sealed "
        "with which key. reseal: seal rows with the first key. Exit code 1 when some could not be opened."
    )
    requires_system_checks = ()  # `new` comes before there are keys

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=("new", "usage", "reseal"))
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatches to the action."""
        action = options["action"]
        if action == "new":
            self.stdout.write(json.dumps({"key": new_key()}) if options["json"] else new_key())
        elif action == "usage":
            self._usage(as_json=options["json"])
        else:
            self._reseal(as_json=options["json"])

    def _usage(self, *, as_json: bool) -> None:
        declared = get_settings().encryption_keys
        redis, database = keys_in_redis(), keys_in_database()
        ids = [*declared, *sorted((redis.keys() | database.keys()) - declared.keys())]
        if as_json:
            found = {key: {"redis": redis[key], "database": database[key], "known": key in declared} for key in ids}
            self.stdout.write(json.dumps(found))
            return
        roles = {key: ("seals and opens" if key == ids[0] else "opens") for key in declared}
        rows = [(key, redis[key], database[key], roles.get(key, "unknown here")) for key in ids]
        self.stdout.write(table(("KEY", "IN REDIS", "IN DATABASE", ""), rows, right=(1, 2)) if rows else "No keys.")

    def _reseal(self, *, as_json: bool) -> None:
        if not get_settings().encryption_keys:
            raise CommandError("TASKQ['ENCRYPTION_KEYS'] has no key to seal with.")
        first = get_keyring().first
        with Progress(self.stderr, "resealed") as progress:
            summary = reseal(progress.add)
        if as_json:
            self.stdout.write(json.dumps({"key": first, "resealed": summary.done, "left": summary.left}))
        else:
            self.stdout.write(f"{summary.done} rows are sealed with key {first} now.")
        if summary.left:
            why = ", ".join(f"{count} {reason}" for reason, count in summary.reasons.items())
            self.stderr.write(f"{summary.left} could not be opened and stay as they were: {why}", style_func=str)
            sys.exit(1)
