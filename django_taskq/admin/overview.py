"""The overview: what is wrong, if anything; the numbers of now; how it came to this."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from django.utils.translation import gettext as _

from django_taskq.admin.cards import cards
from django_taskq.admin.conditions import BAD
from django_taskq.admin.display import breakable
from django_taskq.admin.figures import brief, count, share
from django_taskq.admin.findings import findings
from django_taskq.admin.history import Rates, by_task, history_of, recent_hour
from django_taskq.admin.links import seen, task_urls
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import Look, look
from django_taskq.admin.running import running_rows
from django_taskq.admin.series import SPANS, Bucket, buckets, overview_charts
from django_taskq.admin.server import server_facts
from django_taskq.admin.shared import shared
from django_taskq.admin.tabs import TABS
from django_taskq.broker import get_broker
from django_taskq.broker.statistics import Activity, Minute
from django_taskq.exceptions import TaskqError
from django_taskq.models import Overview, TaskType
from django_taskq.outbox import Backlog, backlogs
from django_taskq.periodic.status import Troubles, troubles

TOP = 5  # rows of the small tables


@admin.register(Overview)
class OverviewAdmin(LiveAdmin):
    """Everything at a glance."""

    template = "admin/django_taskq/overview.html"

    def content(self, request: HttpRequest) -> dict[str, Any]:
        now = look()
        hour = recent_hour(now)
        rates = Rates(hour, now.at) if hour else None
        chosen = request.GET.get("span", "")
        chosen = chosen if chosen in SPANS else "1h"
        found = [] if now.error else findings(now, rates, _outboxes(), _troubles(now))
        tasks = by_task(history_of(get_broker()).tasks(hour)) if hour else {}
        urls = {page: seen(self, request, model) for page, model in TABS.items()}
        running = running_rows(now, task_urls(self, request))
        return {
            **self.away(now),
            "findings": [(finding, urls.get(finding.page, "")) for finding in found],
            "level": found[0].level if found else BAD,
            "cards": [(card, urls.get(card.page, "")) for card in cards(now, rates)],
            "charts": overview_charts(_points(now, hour, chosen)) if hour else [],
            "spans": [("1h", _("1 hour"), chosen == "1h"), ("24h", _("24 hours"), chosen == "24h")],
            "failing": self._top(tasks, lambda activity: activity.failed),
            "slowest": self._top(tasks, lambda activity: activity.run(0.95) or 0.0),
            "running": running[:TOP],
            "more_running": max(0, len(running) - TOP),
            "urls": urls,
            "server": server_facts(now),
        }

    def _top(self, tasks: Mapping[str, Activity], rank: Callable[[Activity], float]) -> list[dict[str, Any]]:
        """The task types of the last hour that rank highest."""
        ranked = sorted(((rank(activity), task) for task, activity in tasks.items() if task), reverse=True)
        return [
            {
                "task": task,
                "label": breakable(task),
                "url": self.link(TaskType),
                "failed": count(tasks[task].failed),
                "share": share(tasks[task].failure_ratio),
                "p50": brief(tasks[task].run(0.5)),
                "p95": brief(tasks[task].run(0.95)),
                "ended": count(tasks[task].ended),
            }
            for value, task in ranked[:TOP]
            if value
        ]


def _outboxes() -> list[Backlog]:
    try:
        return shared(get_broker(), "outboxes", 5, backlogs)
    except (DatabaseError, InterfaceError):
        return []


def _troubles(now: Look) -> Troubles | None:
    try:
        return shared(get_broker(), "periodic", 15, lambda: troubles(dt.datetime.fromtimestamp(now.at, dt.UTC)))
    except (DatabaseError, InterfaceError):
        return None


def _points(now: Look, hour: Sequence[Minute], chosen: str) -> list[Bucket]:
    if chosen == "1h":
        return buckets(hour, SPANS[chosen])
    broker = get_broker()
    try:
        return shared(broker, f"points {chosen}", 15, lambda: _day(now))
    except TaskqError:
        return buckets(hour, SPANS[chosen])


def _day(now: Look) -> list[Bucket]:
    minutes = history_of(get_broker()).day(now.at, [queue.name for queue in now.queues])
    return buckets(minutes, SPANS["24h"])
