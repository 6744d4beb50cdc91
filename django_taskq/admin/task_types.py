"""Task types: how often each ran in the last hour, how fast, and how often it failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.admin.charts import sparkline
from django_taskq.admin.conditions import BAD, failing
from django_taskq.admin.figures import brief, count, rate, share
from django_taskq.admin.history import by_task, history_of, recent_hour
from django_taskq.admin.links import seen
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import Look, look, look_again
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.statistics import Activity, Minute
from django_taskq.exceptions import TaskqError
from django_taskq.models import DeadTask, TaskResult, TaskType
from django_taskq.registry import all_tasks, lookup

MOST = 200  # rows
SORTS = {
    "name": lambda row: row["name"],
    "rate": lambda row: (-row["activity"].ended, row["name"]),
    "failures": lambda row: (-(row["activity"].failure_ratio or 0), row["name"]),
    "retries": lambda row: (-row["activity"].retried, row["name"]),
    "wait": lambda row: (-(row["activity"].wait(0.95) or 0), row["name"]),
    "run": lambda row: (-(row["activity"].run(0.95) or 0), row["name"]),
}


@admin.register(TaskType)
class TaskTypeAdmin(LiveAdmin):
    """What is registered, and what ran without being known here."""

    template = "admin/django_taskq/task_types.html"

    def content(self, request: HttpRequest) -> dict[str, Any]:
        now = look()
        hour = recent_hour(now)
        activities = history_of(get_broker()).tasks(hour) if hour else {}
        chosen = request.GET.get("sort", "")
        chosen = chosen if chosen in SORTS else "name"
        rows = sorted(self._rows(request, now, activities, hour), key=SORTS[chosen])
        return {
            **self.away(now),
            "rows": rows[:MOST],
            "more": max(0, len(rows) - MOST),
            "columns": [
                ("name", _("Task"), False),
                ("rate", _("Ended a minute"), True),
                ("failures", _("Failures"), True),
                ("retries", _("Retries"), True),
                ("wait", _("Wait p50 / p95"), True),
                ("run", _("Run p50 / p95"), True),
            ],
            "sort": chosen,
            "can_pause": request.user.has_perm("django_taskq.pause"),
        }

    def get_urls(self) -> list[URLPattern]:
        return [
            *super().get_urls(),
            self.route("pause/", self.pause_view, "pause"),
            self.route("resume/", self.resume_view, "resume"),
        ]

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """POST: calls of the task are not handed to workers."""
        text = _("The task %(task)s is paused. What runs goes on.")
        return self._switch(request, "pause", Inspector.pause_task, text)

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        """POST: they are again."""
        return self._switch(request, "resume", Inspector.resume_task, _("The task %(task)s is resumed."))

    def _switch(
        self, request: HttpRequest, action: str, act: Callable[[Inspector, str], bool], text: str
    ) -> HttpResponse:
        if refusal := self.refused(request, "pause"):
            return refusal
        name, now = request.POST.get("task", ""), look()
        if lookup(name) is None and name not in now.paused_tasks and name not in _known(now):
            raise Http404
        try:
            if act(Inspector(get_broker()), name):
                self.acted(request, action, name, text % {"task": name})
            self.message_user(request, text % {"task": name}, messages.SUCCESS)
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
        look_again()
        return HttpResponseRedirect(self.link(TaskType))

    def _rows(
        self, request: HttpRequest, now: Look, activities: Mapping[tuple[str, str], Activity], hour: Sequence[Minute]
    ) -> list[dict[str, Any]]:
        of_tasks = by_task(activities)
        queues: dict[str, set[str]] = {}
        for queue, task in activities:
            queues.setdefault(task, set()).add(queue)
        ended = _ended(hour)
        names = {task.name: task.queue_name for task in all_tasks()}
        found = []
        for name in {*names, *of_tasks, *now.paused_tasks}:
            activity = of_tasks.get(name, Activity())
            query = urlencode({"task": name})
            found.append(
                {
                    "name": name,
                    "label": display.breakable(name) if name else _("(others)"),
                    "known": name in names or not name,
                    "paused": name in now.paused_tasks,
                    "queues": sorted(queues.get(name, {names[name]} if name in names else set())),
                    "activity": activity,
                    "rate": rate(activity.ended / max(1, len(hour))),
                    "ended": count(activity.ended),
                    "share": share(activity.failure_ratio),
                    "failed": count(activity.failed),
                    "level": BAD if failing(activity) else "",
                    "retried": count(activity.retried),
                    "wait": (brief(activity.wait(0.5)), brief(activity.wait(0.95))),
                    "run": (brief(activity.run(0.5)), brief(activity.run(0.95))),
                    "spark": sparkline(ended[name]) if name in ended else "",
                    "results_url": seen(self, request, TaskResult, query=query) if name else "",
                    "dead_url": seen(self, request, DeadTask, query=query) if name and activity.failed else "",
                }
            )
        return found


def _known(now: Look) -> set[str]:
    """Tasks that ran in the last hour, here or elsewhere."""
    hour = recent_hour(now)
    return {task for _queue, task in history_of(get_broker()).tasks(hour)} if hour else set()


def _ended(hour: Sequence[Minute]) -> dict[str, list[float]]:
    """How many ended in each minute that is over, by task."""
    found: dict[str, list[float]] = {}
    over = hour[:-1]
    for position, minute in enumerate(over):
        for (_queue, task), activity in minute.tasks.items():
            found.setdefault(task, [0] * len(over))[position] += activity.ended
    return found
