"""The numbers at the top of the overview."""

from __future__ import annotations

from typing import NamedTuple

from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext as _

from django_taskq.admin.conditions import BAD, WARN, behind, failing
from django_taskq.admin.figures import ago, brief, compact, count, rate, share
from django_taskq.admin.history import Rates
from django_taskq.admin.look import Look
from django_taskq.admin.shared import shared
from django_taskq.broker import get_broker
from django_taskq.models import DeadTask

COUNTED = 1_000  # dead letters that are counted; beyond them "1,000+" says enough


class Card(NamedTuple):
    """One number. `page` is the live page that says more, `level` marks what needs attention."""

    label: str
    value: str
    note: str = ""
    page: str = ""
    level: str = ""


def cards(look: Look, rates: Rates | None) -> list[Card]:
    """Of now, then of the last minutes, then of the database."""
    live = [*_queues(look), _workers(look)] if look.at else []
    return [*live, *(_rates(rates) if rates is not None else []), _dead()]


def _queues(look: Look) -> list[Card]:
    ready, running, scheduled = (
        sum(getattr(queue, name) for queue in look.queues) for name in ("ready", "running", "scheduled")
    )
    late = any(behind(look, queue) for queue in look.queues)
    oldest = max((look.at - queue.oldest for queue in look.queues if queue.oldest is not None), default=None)
    due = min((queue.next_due for queue in look.queues if queue.next_due is not None), default=None)
    oldest_note = "" if oldest is None else _("oldest %(span)s") % {"span": ago(oldest)}
    due_note = "" if due is None else _("next in %(span)s") % {"span": brief(max(0.0, due - look.at))}
    return [
        Card(_("Queued"), compact(ready), oldest_note, "queues", BAD if late else ""),
        Card(_("Running"), compact(running), "", "workers"),
        Card(_("Scheduled"), compact(scheduled), due_note, "queues"),
    ]


def _workers(look: Look) -> Card:
    note = _("%(busy)s busy") % {"busy": count(sum(bool(worker.running) for worker in look.alive))}
    level = BAD if not look.alive else WARN if look.lost else ""
    return Card(_("Workers"), count(len(look.alive)), note, "workers", level)


def _rates(rates: Rates) -> list[Card]:
    total, of_late = rates.total, _("last 5 minutes")
    return [
        Card(_("Throughput"), rate(total.ended / rates.minutes), _("tasks a minute"), "task_types"),
        Card(_("Failures"), share(total.failure_ratio), of_late, "task_types", BAD if failing(total) else ""),
        Card(_("Wait, p95"), brief(total.wait(0.95)), of_late, "queues"),
        Card(_("Run, p95"), brief(total.run(0.95)), of_late, "task_types"),
    ]


def _dead() -> Card:
    """The one number of the database; an index answers, and no further than COUNTED."""
    try:
        dead = shared(get_broker(), "dead", 5, _count_dead)
    except (DatabaseError, InterfaceError):
        return Card(_("Dead"), "?", _("the database is away"), "dead", WARN)
    value = f"{count(COUNTED)}+" if dead > COUNTED else count(dead)
    return Card(_("Dead"), value, _("to be decided on") if dead else "", "dead", WARN if dead else "")


def _count_dead() -> int:
    rows = DeadTask.objects.filter(state=DeadTask.State.DEAD).order_by()
    return rows.values("failed_at")[: COUNTED + 1].count()
