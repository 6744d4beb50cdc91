"""Results: the list of ended tasks, and the page of any task, whether it waits, runs or has ended."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.current import Current, current
from django_taskq.admin.filters import (
    ErrorClassFilter,
    QueueFilter,
    SinceFilter,
    StatusFilter,
    TaskFilter,
    WorkerFilter,
)
from django_taskq.admin.page import ASKED
from django_taskq.admin.search import as_id
from django_taskq.exceptions import TaskqError
from django_taskq.handle import TaskHandle
from django_taskq.models import DeadTask, Ended, TaskResult

LETTERS = 20  # dead letters of one task that its page leads to
STATES = {
    "queued": gettext_lazy("queued"),
    "scheduled": gettext_lazy("scheduled"),
    "running": gettext_lazy("running"),
    "blocked": gettext_lazy("blocked"),
}


@admin.register(TaskResult)
class TaskResultAdmin(RecordAdmin):
    """Results are read; with the permission they may be deleted."""

    detail_template = "admin/django_taskq/taskresult_detail.html"
    list_display = ("short_id", "task_name", "queue_name", "state", "ended", "ran", "waited", "attempts_made")
    list_display_links = ("short_id", "task_name")
    filters = (StatusFilter, QueueFilter, TaskFilter, SinceFilter, ErrorClassFilter, WorkerFilter)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: TaskResult) -> SafeString:
        return display.badge(row.status, STATES.get(row.status) or row.get_status_display())

    @admin.display(description=gettext_lazy("wait"))
    def waited(self, row: TaskResult) -> SafeString:
        return display.unbroken(display.span(row.wait))

    @admin.display(description=gettext_lazy("duration"))
    def ran(self, row: TaskResult) -> SafeString:
        return display.unbroken(display.span(row.duration))

    @admin.display(description=gettext_lazy("finished"), ordering="finished_at")
    def ended(self, row: TaskResult) -> str | SafeString:
        return display.moment(row.finished_at, short=True)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; the id of a task that only Redis knows leads to its page."""
        id = as_id(request.GET.get("q", "")) if self.has_view_permission(request) else None
        if id is not None and not TaskResult.objects.filter(pk=id).exists() and current(id.bytes).row is not None:
            return HttpResponseRedirect(self.url("change", id))
        return super().changelist_view(request, extra_context)

    # --- the page of one task ---------------------------------------------------------------------------------------

    def find(self, request: HttpRequest, object_id: str) -> tuple[Any, Current]:
        """By its id: the row, or what Redis knows where that is newer."""
        try:
            id = uuid.UUID(object_id)
        except ValueError:
            return None, Current()
        now = current(id.bytes)
        row = self.get_object(request, str(id))
        newer = now.row is not None and (row is None or now.row.run > row.run or now.is_active)
        return now.row if newer else row, now

    def gone(self, request: HttpRequest) -> HttpResponse:
        """Neither the database nor Redis has it."""
        text = _("This task does not exist, neither in the database nor in Redis. Perhaps it has been pruned.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(self.url("changelist"))

    def detail_context(self, request: HttpRequest, row: TaskResult, now: Current) -> dict[str, Any]:
        letters = list(
            DeadTask.objects.filter(task_id=row.pk).order_by("-run").defer("raw", "traceback", "log")[:LETTERS]
        )
        may_view_dead = self.may(request, "view_deadtask") and self.admin_site.is_registered(DeadTask)
        before = next((dead for dead in letters if dead.run == row.run - 1), None)
        return {
            "badge": self.state(row),
            "facts": self._facts(row, now),
            "task_id": row.pk,
            "ended_at": display.moment(row.finished_at, milliseconds=True),
            "due_at": display.moment(now.due, milliseconds=True),
            "dead_letters": letters if may_view_dead else [],
            "was_edited": before is not None and (before.args, before.kwargs) != (row.args, row.kwargs),
            "before": before if may_view_dead else None,
            "cancel_url": self.url("cancel", row.pk) if now.is_active and self.may(request, "cancel") else "",
            "this_url": self.url("change", row.pk),
            **self._dead_tools(request, row, letters if may_view_dead else []),
        }

    def _facts(self, row: TaskResult, now: Current) -> list[tuple[str, Any]]:
        """Names and values; what does not apply is left out."""
        ended = row.finished_at is not None
        facts = [
            (_("Queue"), self.queue_name(row), True),
            (_("Priority"), row.priority, True),
            (_("Attempts"), now.running.attempt if now.running else row.attempts, True),
            (_("Run"), row.run, True),
            (_("Waited"), display.span(row.wait), row.wait is not None),
            (_("Ran"), display.span(row.duration), ended),
            (_("Lost workers"), row.losses, row.losses),
            (_("Worker"), row.worker, row.worker),
            (_("Enqueued"), display.moment(row.enqueued_at, milliseconds=True), True),
            (_("First started"), display.moment(row.first_started_at, milliseconds=True), row.first_started_at),
            (_("Finished"), display.moment(row.finished_at, milliseconds=True), ended),
            (_("Due"), display.moment(now.due, milliseconds=True), now.due),
        ]
        return [(name, value) for name, value, applies in facts if applies]

    def _dead_tools(self, request: HttpRequest, row: TaskResult, letters: list[DeadTask]) -> dict[str, Any]:
        """What may be done about the dead letter of this run; its own admin knows."""
        letters_admin: Any = self.admin_site._registry.get(DeadTask)
        dead = next((dead for dead in letters if dead.run == row.run), None)
        if dead is None or letters_admin is None:
            return {}
        tools: dict[str, Any] = letters_admin.tools(request, dead)
        return tools

    def _arguments(self, request: HttpRequest, row: Ended) -> list[tuple[str, str]] | None:
        shown = super()._arguments(request, row)
        if shown is not None and isinstance(row, TaskResult) and row.status == TaskResult.Status.SUCCEEDED:
            shown.append((_("Result"), display.pretty_json(row.result)))
        return shown

    # --- cancel -----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_cancel"
        address = path("<path:object_id>/cancel/", self.admin_site.admin_view(self.cancel_view), name=name)
        return [address, *super().get_urls()]

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: cancels what no worker holds, and asks the worker that does."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.may(request, "cancel") or not self.has_view_permission(request):
            raise PermissionDenied
        row, now = self.find(request, object_id)
        if now.error:
            self.message_user(request, now.error, messages.ERROR)
        elif row is not None:
            try:
                level, text = self._cancel(request, row)
            except TaskqError as problem:
                level, text = messages.ERROR, str(problem)
            self.message_user(request, text, level)
        return self.gone(request) if row is None else HttpResponseRedirect(self.url("change", row.pk))

    def _cancel(self, request: HttpRequest, row: TaskResult) -> tuple[int, str]:
        """Level and text of what there is to say."""
        cancelled: bool | None = TaskHandle(row.pk.bytes).cancel()  # from the outbox, too
        if cancelled is None:
            return messages.WARNING, _("It had ended before: nothing was cancelled.")
        done = _("Cancelled.") if cancelled else ASKED
        self.decided(request, "cancel", [row], done, 1)
        if cancelled:
            return messages.SUCCESS, done
        return messages.WARNING, _("A worker holds it and has been asked to end it. This page says whether it does.")
