"""Queues: how each is doing, with the buttons that pause, resume and purge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.translation import gettext as _

from django_taskq.admin.charts import sparkline
from django_taskq.admin.conditions import state_of
from django_taskq.admin.figures import ago, brief, count, rate
from django_taskq.admin.history import Rates, clearing, recent_hour
from django_taskq.admin.links import seen
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import Look, look, look_again
from django_taskq.admin.purging import purge
from django_taskq.admin.waiting import WaitingPages
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, QueueState
from django_taskq.broker.statistics import Minute
from django_taskq.conf import max_length_of
from django_taskq.exceptions import TaskqError
from django_taskq.models import Queue, TaskResult


@admin.register(Queue)
class QueueAdmin(WaitingPages, LiveAdmin):
    """The list of queues; WaitingPages has the page of one."""

    template = "admin/django_taskq/queues.html"

    def get_urls(self) -> list[URLPattern]:
        return [
            *super().get_urls(),
            self.route("<path:name>/pause/", self.pause_view, "pause"),
            self.route("<path:name>/resume/", self.resume_view, "resume"),
            self.route("<path:name>/purge/", self.purge_view, "purge"),
            self.route("<path:name>/cancel/", self.cancel_view, "cancel"),
            self.route("<path:name>/change/", self.queue_view, "change"),
        ]

    def content(self, request: HttpRequest) -> dict[str, Any]:
        now = look()
        hour = recent_hour(now)
        rates = Rates(hour, now.at) if hour else None
        return {
            **self.away(now),
            "rows": [self.row(request, now, rates, hour, queue) for queue in now.queues],
            "can_pause": request.user.has_perm("django_taskq.pause"),
            "can_purge": request.user.has_perm("django_taskq.purge"),
        }

    def row(
        self, request: HttpRequest, now: Look, rates: Rates | None, hour: Sequence[Minute], queue: QueueState
    ) -> dict[str, Any]:
        """One queue as the list and its own page show it."""
        level, state = state_of(now, queue)
        entering, leaving = (rates.entering(queue.name), rates.leaving(queue.name)) if rates else (0.0, 0.0)
        depths = [minute.depths[queue.name].ready if queue.name in minute.depths else 0 for minute in hour]
        return {
            "name": queue.name,
            "level": level,
            "state": state,
            "paused": queue.paused,
            "declared": queue.name in now.declared,
            "ready": count(queue.ready),
            "running": count(queue.running),
            "scheduled": count(queue.scheduled),
            "blocked": count(queue.blocked),
            "waiting": queue.ready + queue.scheduled + queue.blocked,
            "most_waiting": "" if (most := max_length_of(queue.name)) is None else count(most),
            "oldest": ago(None if queue.oldest is None else now.at - queue.oldest),
            "next_due": brief(None if queue.next_due is None else max(0.0, queue.next_due - now.at)),
            "entering": rate(entering),
            "leaving": rate(leaving),
            "clearing": brief(clearing(queue.ready, entering, leaving)),
            "workers": count(len(now.serving(queue.name))),
            "priorities": [(priority, count(ready)) for priority, ready in sorted(queue.priorities.items())[::-1]],
            "spark": sparkline(depths) if any(depths) else "",
            "most": count(max(depths, default=0)),
            "urls": {
                name: self.link(Queue, name, quote(queue.name))
                for name in ("change", "pause", "resume", "purge", "cancel")
            },
            "results_url": seen(self, request, TaskResult, query=urlencode({"queue": queue.name})),
        }

    # --- pause, resume, purge ---------------------------------------------------------------------------------------

    def pause_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """POST: workers claim nothing more from the queue."""
        text = _("The queue %(queue)s is paused. What runs goes on.")
        return self._switch(request, unquote(name), "pause", Inspector.pause, text)

    def resume_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """POST: workers claim again."""
        return self._switch(request, unquote(name), "resume", Inspector.resume, _("The queue %(queue)s is resumed."))

    def purge_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """GET: asks for the queue's name. POST with it: cancels what waits there."""
        self.require(request, "monitor", "purge")
        now, name = look(), unquote(name)
        queue = self.find(now, name)
        typed = request.POST.get("confirmation", "").strip()
        if request.method == "POST" and typed == name:
            return self._purge(request, name)
        context = {
            **self.away(now),
            "title": _("Purge %(queue)s") % {"queue": name},
            "trail": True,
            "still": True,
            "row": self.row(request, now, None, [], queue),
            "total": count(queue.ready + queue.scheduled + queue.blocked),
            "mistyped": request.method == "POST",
        }
        return self.page(request, "admin/django_taskq/purge.html", context)

    def _switch(
        self, request: HttpRequest, name: str, action: str, act: Callable[[Inspector, str], bool], text: str
    ) -> HttpResponse:
        if refusal := self.refused(request, "pause"):
            return refusal
        self.find(look(), name)
        try:
            if act(Inspector(get_broker()), name):
                self.acted(request, action, name, text % {"queue": name})
            self.message_user(request, text % {"queue": name}, messages.SUCCESS)
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
        look_again()
        return self.back(request, name)

    def _purge(self, request: HttpRequest, name: str) -> HttpResponse:
        done = purge(get_broker(), name)
        if done.tasks:
            text = _("%(count)s tasks of the queue %(queue)s are cancelled.") % {
                "count": count(done.tasks),
                "queue": name,
            }
            self.acted(request, "purge", name, text, done.tasks)
            self.message_user(request, text, messages.SUCCESS)
        if done.error:
            self.message_user(request, done.error, messages.ERROR)
        elif done.more:
            self.message_user(request, _("There are more: purge again for the rest."), messages.WARNING)
        elif not done.tasks:
            self.message_user(request, _("Nothing waited there."), messages.WARNING)
        look_again()
        return self.back(request, name, purging=done.more)

    def find(self, now: Look, name: str) -> QueueState:
        """The queue of that name; Http404 where there is none and Redis would know."""
        for queue in now.queues:
            if queue.name == name:
                return queue
        if name in now.declared:
            return QueueState(name, False, 0, 0, 0, None, None, {})
        raise Http404

    def back(self, request: HttpRequest, name: str, *, purging: bool = False) -> HttpResponseRedirect:
        """To where the button was."""
        if purging:
            return HttpResponseRedirect(self.link(Queue, "purge", quote(name)))
        on_list = request.POST.get("from") == "list"
        return HttpResponseRedirect(self.link(Queue) if on_list else self.link(Queue, "change", quote(name)))
