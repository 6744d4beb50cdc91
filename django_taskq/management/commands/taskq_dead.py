"""`manage.py taskq_dead`: lists dead letters, shows one, requeues or discards them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.utils import timezone

from django_taskq.exceptions import TaskqError
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.management.dead_letters import (
    add_filters,
    chosen,
    closed,
    describe,
    groups,
    is_filtered,
    letters,
)
from django_taskq.management.progress import Progress
from django_taskq.management.table import span, table
from django_taskq.models import DeadTask
from django_taskq.requeue import Summary, discard_many, requeue_many, sweep

DONE = {"requeue": "requeued", "discard": "discarded"}


class Command(TaskqCommand):
    help = (
        "list: the newest dead letters, or their groups. show: one of them, whole. requeue: start a new run. "
        "discard: mark as dealt with. These two take ids, filters, or --all, and ask before they start. Exit code 1 "
        "when one was refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Ids are those of tasks."""
        add = parser.add_argument
        add("action", choices=("list", "show", "requeue", "discard"))
        add("ids", nargs="*", metavar="ID", help="ids of tasks")
        add_filters(parser)
        add("--state", choices=DeadTask.State.values, default=DeadTask.State.DEAD, help="for list (default: dead)")
        add("--all", action="store_true", help="requeue or discard without any filter")
        add("--grouped", action="store_true", help="list groups of the same failure")
        add("--limit", type=at_least(1), default=50, metavar="N", help="list at most N (default: 50)")
        add("--open", action="store_true", help="show what is sealed, too")
        add("--json", action="store_true", help="print JSON")
        add("--yes", action="store_true", help="requeue and discard without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatches to the action."""
        rows, action = chosen(options), options["action"]
        if action == "list":
            self._list(rows.filter(state=options["state"]), options)
        elif action == "show":
            self._show(rows, options)
        else:
            self._change(rows.filter(state=DeadTask.State.DEAD), action, options)

    # --- list and show ------------------------------------------------------------------------------------------------

    def _list(self, rows: QuerySet[DeadTask], options: dict[str, Any]) -> None:
        limit = options["limit"]
        found = (groups if options["grouped"] else letters)(rows, limit + 1)
        shown = found[:limit]
        if options["json"]:
            self._print_json(shown)
        elif not shown:
            self.stdout.write("No dead letters.")
        else:
            self.stdout.write((_table_of_groups if options["grouped"] else _table_of_letters)(shown))
        if len(found) > limit:
            self.stderr.write(f"There are more than these {limit}: --limit shows them.", style_func=str)

    def _show(self, rows: QuerySet[DeadTask], options: dict[str, Any]) -> None:
        if len(options["ids"]) != 1:
            raise CommandError("show takes one id.")
        dead = rows.order_by("-run").first()
        if dead is None:
            raise CommandError(f"No dead letter has the id {options['ids'][0]}.")
        described = describe(dead, opened=options["open"])
        if options["json"]:
            self._print_json(described)
            return
        traceback, log, history = (described.pop(name) for name in ("traceback", "log", "history"))
        for name, value in described.items():
            self.stdout.write(f"{name:<13} {value}".rstrip())
        for attempt in history:
            took = attempt.get("ended", 0) - attempt.get("started", 0)
            self.stdout.write(
                f"attempt {attempt.get('number', '?'):<5} {attempt.get('how')} after {took:.2f} s, "
                f"{attempt.get('worker')}: {_error(attempt)}"
            )
        if traceback:
            self.stdout.write(f"\n{traceback}")
        if log:
            self.stdout.write(f"\n{log}")

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder))

    # --- requeue and discard ------------------------------------------------------------------------------------------

    def _change(self, rows: QuerySet[DeadTask], action: str, options: dict[str, Any]) -> None:
        if not options["all"] and not is_filtered(options):
            raise CommandError(f"{action} takes ids, a filter, or --all.")
        count = rows.count()
        if count and not options["yes"]:
            self.confirm(f"{action} {count:,} dead letters?")
        summary, discarded = Summary(), 0
        for id, why in closed(options["ids"]).items():
            summary.refused[f"{id}: {why}."] += 1
        try:
            with Progress(self.stderr, DONE[action], count) as progress:
                for batch in sweep(rows):
                    if action == "discard":
                        discarded += discard_many(batch)
                    else:
                        requeue_many(batch, summary)
                    progress.add(len(batch))
        except TaskqError as error:
            raise CommandError(f"{summary.sent} were requeued before this: {error}") from error
        self._report({"discarded": discarded} if action == "discard" else _counts(summary), summary, options)

    def _report(self, counts: dict[str, int], summary: Summary, options: dict[str, Any]) -> None:
        if options["json"]:
            self._print_json({**counts, "refused": dict(summary.refused)})
        else:
            for what, number in counts.items():
                self.stdout.write(f"{number} {what.replace('_', ' ')}.")
            for why, number in summary.refused.items():
                self.stderr.write(f"{number} refused: {why}", style_func=str)
        if summary.refused:
            sys.exit(1)


def _counts(summary: Summary) -> dict[str, int]:
    before = {"had_been_requeued_before": summary.before} if summary.before else {}
    return {"requeued": summary.sent, **before}


def _table_of_letters(found: Sequence[dict[str, Any]]) -> str:
    now = timezone.now()
    cells = [
        (row["task_id"], span((now - row["failed_at"]).total_seconds()), row["task"], row["reason"], _error(row))
        for row in found
    ]
    return table(("ID", "AGO", "TASK", "REASON", "ERROR"), cells, right=(1,))


def _table_of_groups(found: Sequence[dict[str, Any]]) -> str:
    now = timezone.now()
    cells = [
        (
            row["fingerprint"], row["count"], span((now - row["last"]).total_seconds()), row["task"],
            row["error_class"] or row["reason"],
        )
        for row in found
    ]  # fmt: skip
    return table(("GROUP", "COUNT", "LAST", "TASK", "ERROR"), cells, right=(1, 2))


def _error(of: dict[str, Any], most: int = 80) -> str:
    """The error of a row or of an attempt, on one line."""
    text = ": ".join(filter(None, (of.get("error_class"), of.get("error_message"))))
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
