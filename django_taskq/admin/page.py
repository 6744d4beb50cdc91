"""The page of one record: what happened to a task, and what may be done about it."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.admin.current import Current, current
from django_taskq.admin.python_call import python_call
from django_taskq.admin.tabs import Tabbed
from django_taskq.core.frames import frames_of
from django_taskq.models import DeadTask, Ended, TaskResult
from django_taskq.opening import shown_row
from django_taskq.redaction import REDACTED

FRAMES = 10  # of the application's own that a page shows above the whole traceback
DECISIONS = 10  # of people, the last ones
# In the log when a worker was asked to end a task; not translated, because the page looks for it.
ASKED = "Asked its worker to cancel it."
MOST_LETTERS = 50  # dead letters of one task


def back_to(request: HttpRequest, otherwise: str) -> str:
    """Where a form asked to return to, if that is on this site."""
    wanted = request.POST.get("next", "")
    local = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if local else otherwise


class RecordPage(Tabbed):
    """A page to read, not a form."""

    detail_template = ""
    id_field = "id"  # holds the task's id
    ended_field = "finished_at"

    def may(self, request: HttpRequest, action: str) -> bool:
        """Whether the user has the permission that is named like the action."""
        return request.user.has_perm(f"django_taskq.{action}")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A page to read, not a form."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        row, now = self.find(request, unquote(object_id))
        if row is None:
            return self.gone(request)
        own, decisions = self.detail_context(request, row, now), self.decisions(row)
        row = shown_row(row, may=self.may(request, "view_arguments"), say=_)
        arguments = self._arguments(request, row)
        context = {
            **self.admin_site.each_context(request),
            "tabs": self.tabs(request),
            "title": str(row.task or _("(unknown)")),
            "subtitle": None,
            "opts": self.opts,
            "original": row,
            "row": row,
            "arguments": arguments,
            "redacted": any(REDACTED in text for _name, text in arguments or ()),
            "steps": self.steps(row, now),
            "frames": [frame for frame in reversed(frames_of(row.traceback)) if frame.is_own][:FRAMES],
            "call": "" if arguments is None else python_call(row.task, row.args, row.kwargs),
            "decisions": decisions,
            "asked_in_vain": _asked_in_vain(row, now, decisions),
            "now": now,
            "percent": now.percent,
            "stored": not row._state.adding,
            "enqueued_at": display.moment(row.enqueued_at, milliseconds=True),
            "has_delete_permission": self.has_delete_permission(request, row),
            **own,
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.detail_template, context)

    def find(self, request: HttpRequest, object_id: str) -> tuple[Any, Current]:
        """The row whose page this is, and what Redis knows of its task."""
        row = self.get_object(request, object_id)
        return row, Current() if row is None else current(getattr(row, self.id_field).bytes)

    def detail_context(self, request: HttpRequest, row: Any, now: Current) -> dict[str, Any]:
        """What the model's own template needs besides."""
        return {}

    def _arguments(self, request: HttpRequest, row: Ended) -> list[tuple[str, str]] | None:
        """Titles and texts, or None for somebody who may not see them."""
        if not request.user.has_perm("django_taskq.view_arguments"):
            return None
        return [
            (_("Arguments"), display.pretty_json(row.args)),
            (_("Keyword arguments"), display.pretty_json(row.kwargs)),
        ]

    def steps(self, row: Any, now: Current) -> list[display.Step]:
        """The attempts; the last one comes from the row itself, or from the worker that is at it."""
        ended: dt.datetime | None = getattr(row, self.ended_field)
        last: dict[str, Any] | None = None
        if ended is None:
            if now.running is not None:
                last = {
                    "number": now.running.attempt,
                    "started": now.running.since,
                    "ended": max(now.running.since, time.time()),  # so far
                    "worker": row.worker,
                    "how": "running",
                }
        elif row.attempts and row.started_at is not None:
            last = {
                "number": row.attempts,
                "started": row.started_at.timestamp(),
                "ended": ended.timestamp(),
                "worker": row.worker,
                "how": getattr(row, "status", "failed"),
                "error_class": row.error_class,
                "error_message": row.error_message,
                "traceback": row.traceback,
            }
        return display.timeline(row.attempts_history, row.enqueued_at, last)

    def decisions(self, row: Any) -> list[LogEntry]:
        """What people did about this task, the last first: the log's entries of its result and its dead letters."""
        id = getattr(row, self.id_field)
        letters = DeadTask.objects.filter(task_id=id).order_by().values_list("pk", flat=True)[:MOST_LETTERS]
        ours = LogEntry.objects.filter(content_type__app_label="django_taskq").select_related("user")
        of_letters = Q(content_type__model="deadtask", object_id__in=[str(key) for key in letters])
        return list(ours.filter(Q(object_id=str(id)) | of_letters).order_by("-action_time")[:DECISIONS])

    def gone(self, request: HttpRequest) -> HttpResponse:
        """Back to the list: the row was pruned, or never was."""
        self.message_user(request, _("This record does not exist. Perhaps it has been pruned."), messages.WARNING)
        return HttpResponseRedirect(self.url("changelist"))

    def task_url(self, request: HttpRequest, id: Any) -> str:
        """The page of a task, where this site has one and the user may see it."""
        if not self.may(request, "view_taskresult"):
            return ""
        return self.link(TaskResult, "change", id)

    def url(self, name: str, *args: Any) -> str:
        """The address of one of this model's admin views."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(name, args=args)


def _asked_in_vain(row: Any, now: Current, decisions: list[LogEntry]) -> bool:
    """Whether somebody asked for an end of this run, and it ended otherwise."""
    if now.is_active or getattr(row, "status", "cancelled") == "cancelled" or row.enqueued_at is None:
        return False
    begin = row.enqueued_at if timezone.is_aware(row.enqueued_at) else timezone.make_aware(row.enqueued_at)
    return any(
        entry.change_message == ASKED
        and (entry.action_time if timezone.is_aware(entry.action_time) else timezone.make_aware(entry.action_time))
        > begin
        for entry in decisions
    )
