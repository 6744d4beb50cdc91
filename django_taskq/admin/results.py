"""Results: the list of ended tasks and the page of one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.filters import ErrorClassFilter, QueueFilter, SinceFilter, StatusFilter, TaskFilter
from django_taskq.models import DeadTask, Ended, TaskResult


@admin.register(TaskResult)
class TaskResultAdmin(RecordAdmin):
    """Results are read; with the permission they may be deleted."""

    detail_template = "admin/django_taskq/taskresult_detail.html"
    list_display = ("short_id", "task_name", "queue_name", "state", "attempts_made", "waited", "ran", "ended")
    list_display_links = ("short_id", "task_name")
    filters = (StatusFilter, QueueFilter, TaskFilter, SinceFilter, ErrorClassFilter)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: TaskResult) -> SafeString:
        return display.badge(row.status, row.get_status_display())

    @admin.display(description=gettext_lazy("wait"))
    def waited(self, row: TaskResult) -> SafeString:
        return display.unbroken(display.span(row.wait))

    @admin.display(description=gettext_lazy("duration"))
    def ran(self, row: TaskResult) -> SafeString:
        return display.unbroken(display.span(row.duration))

    @admin.display(description=gettext_lazy("finished"), ordering="finished_at")
    def ended(self, row: TaskResult) -> str | SafeString:
        return display.moment(row.finished_at, short=True)

    def detail_context(self, request: HttpRequest, row: TaskResult) -> dict[str, Any]:
        dead = DeadTask.objects.filter(task_id=row.pk).order_by("-run").only("pk", "run", "state")[:20]
        return {
            "badge": self.state(row),
            "facts": [
                (_("Queue"), self.queue_name(row)),
                (_("Priority"), row.priority),
                (_("Attempts"), row.attempts),
                (_("Run"), row.run),
                (_("Waited"), display.span(row.wait)),
                (_("Ran"), display.span(row.duration)),
                *([(_("Lost workers"), row.losses)] if row.losses else []),
                (_("Worker"), row.worker or display.EMPTY),
                (_("Enqueued"), display.moment(row.enqueued_at, milliseconds=True)),
                (_("First started"), display.moment(row.first_started_at, milliseconds=True)),
                (_("Finished"), display.moment(row.finished_at, milliseconds=True)),
            ],
            "task_id": row.pk,
            "ended_at": display.moment(row.finished_at, milliseconds=True),
            "dead_letters": dead,
            "can_view_dead": request.user.has_perm("django_taskq.view_deadtask"),
        }

    def _arguments(self, request: HttpRequest, row: Ended) -> list[tuple[str, str]] | None:
        shown = super()._arguments(request, row)
        if shown is not None and isinstance(row, TaskResult) and row.status == TaskResult.Status.SUCCEEDED:
            shown.append((_("Result"), display.pretty_json(row.result)))
        return shown
