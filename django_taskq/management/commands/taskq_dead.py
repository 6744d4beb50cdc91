"""`manage.py taskq_dead`: lists dead letters, shows one, requeues or discards them."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from django_taskq.exceptions import TaskqError
from django_taskq.management.table import span, table
from django_taskq.models import DeadTask
from django_taskq.requeue import Summary, discard, requeue_many

BATCH = 500


class Command(BaseCommand):
    help = (
        "list: the newest dead letters, or their groups. show: one of them, whole. requeue: start a new run. "
        "discard: mark as dealt with. These two take ids, filters, or --all; exit code 1 when one was refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Ids are those of tasks."""
        add = parser.add_argument
        add("action", choices=("list", "show", "requeue", "discard"))
        add("ids", nargs="*", metavar="ID", help="task ids")
        add("--task", help="only this task")
        add("--queue", help="only this queue")
        add("--reason", help="only this reason: failed, timeout, worker_lost, invalid_arguments ...")
        add("--error", metavar="TEXT", help="only error classes or messages that contain this")
        add("--group", metavar="FINGERPRINT", help="only this group, as `list --grouped` names it")
        add("--older", type=float, metavar="HOURS", help="only what failed longer ago")
        add("--newer", type=float, metavar="HOURS", help="only what failed since then")
        add("--state", choices=DeadTask.State.values, default=DeadTask.State.DEAD, help="for list (default: dead)")
        add("--all", action="store_true", help="requeue or discard without any filter")
        add("--grouped", action="store_true", help="list groups of the same failure")
        add("--limit", type=int, default=50, metavar="N", help="list at most N (default: 50)")
        add("--json", action="store_true", help="list and show: print JSON")
        add("--yes", action="store_true", help="requeue and discard without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatches to the action."""
        rows = _chosen(options)
        action = options["action"]
        if action == "list":
            self._list(rows.filter(state=options["state"]), options)
        elif action == "show":
            self._show(rows, options)
        else:
            self._change(rows.filter(state=DeadTask.State.DEAD), action, options)

    # --- list and show ------------------------------------------------------------------------------------------------

    def _list(self, rows: QuerySet[DeadTask], options: dict[str, Any]) -> None:
        found = _groups(rows, options["limit"]) if options["grouped"] else _letters(rows, options["limit"])
        if options["json"]:
            self.stdout.write(json.dumps(found, default=str))
            return
        if not found:
            self.stdout.write("No dead letters.")
            return
        now = timezone.now()
        if options["grouped"]:
            cells = [
                (
                    row["fingerprint"], row["count"], span((now - row["last"]).total_seconds()), row["task"],
                    row["error_class"] or row["reason"],
                )
                for row in found
            ]  # fmt: skip
            self.stdout.write(table(("GROUP", "COUNT", "LAST", "TASK", "ERROR"), cells, right=(1, 2)))
        else:
            cells = [
                (
                    row["task_id"], span((now - row["failed_at"]).total_seconds()), row["task"], row["reason"],
                    _short(f"{row['error_class']}: {row['error_message']}"),
                )
                for row in found
            ]  # fmt: skip
            self.stdout.write(table(("ID", "AGO", "TASK", "REASON", "ERROR"), cells, right=(1,)))

    def _show(self, rows: QuerySet[DeadTask], options: dict[str, Any]) -> None:
        if len(options["ids"]) != 1:
            raise CommandError("show takes one id.")
        dead = rows.order_by("-run").first()
        if dead is None:
            raise CommandError(f"No dead letter has the id {options['ids'][0]}.")
        described = {
            "id": str(dead.task_id), "run": dead.run, "state": dead.state, "task": dead.task, "queue": dead.queue,
            "priority": dead.priority, "reason": dead.reason, "failed": dead.failed_at.isoformat(),
            "attempts": dead.attempts, "lost workers": dead.losses, "worker": dead.worker, "group": dead.fingerprint,
            "args": dead.args, "kwargs": dead.kwargs, "error": f"{dead.error_class}: {dead.error_message}",
            "traceback": dead.traceback, "history": dead.attempts_history,
        }  # fmt: skip
        if options["json"]:
            self.stdout.write(json.dumps(described))
            return
        for name in list(described)[:-2]:
            self.stdout.write(f"{name:<13} {described[name]}")
        for attempt in dead.attempts_history:
            took = attempt.get("ended", 0) - attempt.get("started", 0)
            self.stdout.write(
                f"attempt {attempt.get('number')}    {attempt.get('how')} after {took:.2f} s, {attempt.get('worker')}: "
                f"{attempt.get('error_class')}: {_short(str(attempt.get('error_message')))}"
            )
        self.stdout.write(f"\n{dead.traceback}")

    # --- requeue and discard ------------------------------------------------------------------------------------------

    def _change(self, rows: QuerySet[DeadTask], action: str, options: dict[str, Any]) -> None:
        if not options["all"] and not _is_filtered(options):
            raise CommandError(f"{action} takes ids, a filter, or --all.")
        count = rows.count()
        if count and not options["yes"]:
            self._confirm(f"{action} {count} dead letters?")
        summary, discarded, refused = Summary(), 0, 0
        try:
            for batch in _batches(rows):
                if action == "discard":
                    discarded += sum(discard(dead) for dead in batch)
                else:
                    requeue_many(batch, summary)
                self._progress(summary.sent + summary.before + sum(summary.refused.values()) + discarded, count)
        except TaskqError as error:
            raise CommandError(f"{summary.sent} were requeued before this: {error}") from error
        if action == "discard":
            self.stdout.write(f"{discarded} discarded.")
            return
        self.stdout.write(f"{summary.sent} requeued.")
        if summary.before:
            self.stdout.write(f"{summary.before} had been requeued before.")
        for reason, number in summary.refused.items():
            refused += number
            self.stderr.write(f"{number} refused: {reason}")
        if refused:
            sys.exit(1)

    def _confirm(self, question: str) -> None:
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Give --yes where nobody can answer.")
        if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was changed.")

    def _progress(self, done: int, count: int) -> None:
        if self.stderr.isatty():
            filled = 30 * done // max(count, 1)
            self.stderr.write(f"\r[{'#' * filled}{' ' * (30 - filled)}] {done}/{count}", ending="\n" * (done >= count))


def _chosen(options: dict[str, Any]) -> QuerySet[DeadTask]:
    """Dead letters in any state that match ids and filters."""
    rows, now = DeadTask.objects.all(), timezone.now()
    if options["ids"]:
        try:
            rows = rows.filter(task_id__in=[uuid.UUID(text) for text in options["ids"]])
        except ValueError as error:
            raise CommandError(f"That is not a task id: {error}") from error
    for option, column in (("task", "task"), ("queue", "queue"), ("reason", "reason"), ("group", "fingerprint")):
        if options[option]:
            rows = rows.filter(**{column: options[option]})
    if options["error"]:
        text = options["error"]
        rows = rows.filter(Q(error_class__icontains=text) | Q(error_message__icontains=text))
    if options["older"] is not None:
        rows = rows.filter(failed_at__lt=now - timedelta(hours=options["older"]))
    if options["newer"] is not None:
        rows = rows.filter(failed_at__gte=now - timedelta(hours=options["newer"]))
    return rows


def _is_filtered(options: dict[str, Any]) -> bool:
    filters = ("ids", "task", "queue", "reason", "error", "group")
    return any(options[name] for name in filters) or options["older"] is not None or options["newer"] is not None


def _letters(rows: QuerySet[DeadTask], limit: int) -> list[dict[str, Any]]:
    columns = ("task_id", "run", "failed_at", "task", "queue", "reason", "error_class", "error_message", "fingerprint")
    return [dict(row) for row in rows.order_by("-failed_at", "-id").values(*columns)[:limit]]


def _groups(rows: QuerySet[DeadTask], limit: int) -> list[dict[str, Any]]:
    grouped = rows.order_by().values("fingerprint").annotate(
        count=Count("id"), first=Min("failed_at"), last=Max("failed_at"), task=Max("task"), reason=Max("reason"),
        error_class=Max("error_class"),
    )  # fmt: skip
    return [dict(row) for row in grouped.order_by("-last")[:limit]]


def _batches(rows: QuerySet[DeadTask]) -> Iterator[list[DeadTask]]:
    """All of them, oldest first, in batches: what is refused stays dead and is not met again."""
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _short(text: str, most: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
