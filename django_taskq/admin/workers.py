"""Workers: who is alive, what each runs, and the buttons that quiet and stop it or cancel a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.translation import gettext as _

from django_taskq.admin.conditions import BAD, OK, WARN
from django_taskq.admin.figures import ago, brief, count, size
from django_taskq.admin.links import task_urls
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import Look, look, look_again
from django_taskq.admin.running import running_row
from django_taskq.announcements import of_cancel
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.worker_states import WorkerState
from django_taskq.core.ids import id_from_str
from django_taskq.exceptions import TaskqError
from django_taskq.models import Worker


@admin.register(Worker)
class WorkerAdmin(LiveAdmin):
    """Every task process that is registered."""

    template = "admin/django_taskq/workers.html"

    def get_urls(self) -> list[URLPattern]:
        return [
            *super().get_urls(),
            self.route("<path:worker>/control/", self.control_view, "control"),
            self.route("task/<str:task>/cancel/", self.cancel_view, "cancel"),
        ]

    def content(self, request: HttpRequest) -> dict[str, Any]:
        now, url_of = look(), task_urls(self, request)
        return {
            **self.away(now),
            "rows": [self.row(now, worker, url_of) for worker in now.alive],
            "lost": [self.row(now, worker, url_of) for worker in now.lost],
            "busy": count(sum(bool(worker.running) for worker in now.alive)),
            "tasks": count(sum(len(worker.running) for worker in now.alive)),
            "can_control": request.user.has_perm("django_taskq.control"),
            "can_cancel": request.user.has_perm("django_taskq.cancel"),
        }

    def row(self, now: Look, worker: WorkerState, url_of: Callable[[str], str]) -> dict[str, Any]:
        """One task process."""
        level, state = _state(now, worker)
        return {
            "id": worker.id,
            "host": worker.host or worker.id,
            "pid": str(worker.pid or ""),
            "level": level,
            "state": state,
            "controllable": not worker.dead and worker.state in ("starting", "running", "quiet"),
            "quiet": worker.state == "quiet",
            "queues": worker.served,
            "busy": len(worker.running),
            "threads": worker.threads,
            "concurrency": worker.async_concurrency,
            "rss": size(worker.rss) if worker.rss else "",
            "settled": count(worker.settled),
            "up": brief(max(0.0, now.at - worker.started)) if worker.started else "",
            "beat": ago(None if worker.beat is None else now.at - worker.beat),
            "versions": _versions(worker),
            "running": [
                {**running_row(now, task, worker, url_of), "cancel_url": self.link(Worker, "cancel", task.id)}
                for task in sorted(worker.running, key=lambda task: task.since)
            ],
            "control_url": self.link(Worker, "control", quote(worker.id)),
        }

    def control_view(self, request: HttpRequest, worker: str) -> HttpResponse:
        """POST `what`=quiet|stop: reaches the worker with its next beat."""
        if refusal := self.refused(request, "control"):
            return refusal
        worker, what = unquote(worker), request.POST.get("what")
        if what not in ("quiet", "stop"):
            return HttpResponse(status=400)
        try:
            reached = Inspector(get_broker()).control(worker, what)
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self.link(Worker))
        if reached:
            text = {
                "quiet": _(
                    "Worker %(worker)s has been asked to be quiet: it finishes what it runs and claims nothing."
                ),
                "stop": _("Worker %(worker)s has been asked to stop: it finishes what it runs and ends."),
            }[what] % {"worker": worker}
            self.acted(request, what, worker, text)
            self.message_user(request, text, messages.SUCCESS)
        else:
            text = _("Worker %(worker)s is not there any more.") % {"worker": worker}
            self.message_user(request, text, messages.WARNING)
        look_again()
        return HttpResponseRedirect(self.link(Worker))

    def cancel_view(self, request: HttpRequest, task: str) -> HttpResponse:
        """POST: cancels a running task, or asks its worker to."""
        if refusal := self.refused(request, "cancel"):
            return refusal
        try:
            id = id_from_str(task)
        except ValueError:
            return HttpResponse(status=400)
        try:
            reason = _("cancelled by %(user)s") % {"user": request.user}
            [cancelled] = get_broker().cancel([id], reason, of_cancel(reason))
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self.link(Worker))
        if cancelled is None:
            self.message_user(request, _("The task has ended already."), messages.WARNING)
        else:
            text = _("Task %(task)s has been asked to end.") if cancelled is False else _("Task %(task)s is cancelled.")
            self.acted(request, "cancel", task, text % {"task": task})
            self.message_user(request, text % {"task": task}, messages.SUCCESS)
        look_again()
        return HttpResponseRedirect(self.link(Worker))


def _state(now: Look, worker: WorkerState) -> tuple[str, str]:
    if worker.dead:
        return BAD, _("lost")
    if now.is_silent(worker):
        return BAD, _("silent")
    words = {
        "starting": ("", _("starting")),
        "running": (OK, _("running")),
        "quiet": (WARN, _("quiet")),
        "stopping": (WARN, _("stopping")),
    }
    return words.get(worker.state, ("", worker.state))


def _versions(worker: WorkerState) -> str:
    """Of the package, Python and Django, where the worker says them."""
    named = (("", "version"), ("Python ", "python"), ("Django ", "django"))
    return ", ".join(f"{title}{value}" for title, name in named if (value := getattr(worker, name)))
