"""Dead letters as `taskq_dead` finds, groups and describes them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from django_taskq.core.sealing import PREFIX
from django_taskq.management.command import at_least
from django_taskq.models import DeadTask
from django_taskq.opening import hidden, shown_row

BATCH = 500
MOST_HOURS = 876_000.0


def add_filters(parser: CommandParser) -> None:
    """The options that `chosen` reads."""
    add = parser.add_argument
    hours: dict[str, Any] = {"type": at_least(0.0, MOST_HOURS), "metavar": "HOURS"}
    add("--task", metavar="NAME", help="only this task")
    add("--queue", metavar="NAME", help="only this queue")
    add("--reason", help="only this reason: failed, timeout, worker_lost, invalid_arguments ...")
    add("--error", metavar="TEXT", help="only error classes that contain this, or messages, but for sealed ones")
    add("--group", metavar="FINGERPRINT", help="only this group, as `list --grouped` names it")
    add("--older", **hours, help="only what failed longer ago")
    add("--newer", **hours, help="only what failed since then")


def is_filtered(options: dict[str, Any]) -> bool:
    """Whether ids or any filter were given."""
    given = any(options[name] for name in ("ids", "task", "queue", "reason", "error", "group"))
    return given or options["older"] is not None or options["newer"] is not None


def chosen(options: dict[str, Any]) -> QuerySet[DeadTask]:
    """Dead letters in any state that match ids and filters; CommandError for what is no id."""
    rows, now = DeadTask.objects.all(), timezone.now()
    if options["ids"]:
        rows = rows.filter(task_id__in=parse_ids(options["ids"]))
    for option, column in (("task", "task"), ("queue", "queue"), ("reason", "reason"), ("group", "fingerprint")):
        if options[option]:
            rows = rows.filter(**{column: options[option]})
    if text := options["error"]:
        read = Q(error_message__icontains=text) & ~Q(error_message__startswith=PREFIX)  # a part of base64 says nothing
        rows = rows.filter(Q(error_class__icontains=text) | read)
    if options["older"] is not None:
        rows = rows.filter(failed_at__lt=now - timedelta(hours=options["older"]))
    if options["newer"] is not None:
        rows = rows.filter(failed_at__gte=now - timedelta(hours=options["newer"]))
    return rows


def parse_ids(texts: list[str]) -> list[uuid.UUID]:
    """Task ids; CommandError names the first that is none."""
    ids = []
    for text in texts:
        try:
            ids.append(uuid.UUID(text))
        except ValueError:
            raise CommandError(f"{text!r} is not the id of a task.") from None
    return ids


def closed(ids: list[str]) -> dict[str, str]:
    """Of these tasks, those without a dead letter in the state `dead`: id -> what there is instead."""
    found: dict[uuid.UUID, set[str]] = {id: set() for id in parse_ids(ids)}
    for start in range(0, len(found), BATCH):
        part = list(found)[start : start + BATCH]
        for id, state in DeadTask.objects.filter(task_id__in=part).values_list("task_id", "state"):
            found[id].add(state)
    return {
        str(id): f"it is {' and '.join(sorted(states))} already" if states else "there is no dead letter of this id"
        for id, states in found.items()
        if DeadTask.State.DEAD not in states
    }


def letters(rows: QuerySet[DeadTask], limit: int) -> list[dict[str, Any]]:
    """The newest."""
    columns = ("task_id", "run", "failed_at", "task", "queue", "reason", "error_class", "error_message", "fingerprint")
    found = rows.order_by("-failed_at", "-id").values(*columns)[:limit]
    return [{**row, "error_message": hidden(row["error_message"])} for row in found]


def groups(rows: QuerySet[DeadTask], limit: int) -> list[dict[str, Any]]:
    """Failures of one kind, with their number; the kinds that occurred last."""
    grouped = rows.order_by().values("fingerprint").annotate(
        count=Count("id"), first=Min("failed_at"), last=Max("failed_at"), task=Max("task"), reason=Max("reason"),
        error_class=Max("error_class"),
    )  # fmt: skip
    return [dict(row) for row in grouped.order_by("-last")[:limit]]


def describe(dead: DeadTask, *, opened: bool) -> dict[str, Any]:
    """Everything about one that may be shown; `opened`: also what is sealed."""
    dead = shown_row(dead, may=opened)
    return {
        "id": str(dead.task_id), "run": dead.run, "state": dead.state, "task": dead.task, "queue": dead.queue,
        "priority": dead.priority, "reason": dead.reason, "failed_at": dead.failed_at.isoformat(),
        "attempts": dead.attempts, "losses": dead.losses, "worker": dead.worker, "group": dead.fingerprint,
        "args": dead.args, "kwargs": dead.kwargs, "error_class": dead.error_class, "error_message": dead.error_message,
        "traceback": dead.traceback, "log": dead.log, "history": dead.attempts_history,
    }  # fmt: skip
