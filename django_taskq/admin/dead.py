"""Dead letters: what failed for good, and the buttons that send it again or put it aside."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.filters import (
    ErrorClassFilter,
    FailedSinceFilter,
    FingerprintFilter,
    QueueFilter,
    ReasonFilter,
    StateFilter,
    TaskFilter,
)
from django_taskq.exceptions import TaskqError
from django_taskq.models import DeadTask, TaskResult
from django_taskq.requeue import Summary, discard_many, requeue_many

AT_ONCE = 500  # dead letters one press requeues; each costs a few round trips


@admin.register(DeadTask)
class DeadTaskAdmin(RecordAdmin):
    """Requeueing and discarding have permissions of their own."""

    detail_template = "admin/django_taskq/deadtask_detail.html"
    id_field = "task_id"
    ended_field = "failed_at"
    list_display = ("short_id", "task_name", "queue_name", "badge", "why", "attempts_made", "ended")
    list_display_links = ("short_id", "task_name")
    filters = (
        StateFilter, QueueFilter, TaskFilter, FailedSinceFilter, ReasonFilter, ErrorClassFilter, FingerprintFilter
    )  # fmt: skip
    actions = ("requeue_selected", "discard_selected")

    @admin.display(description=gettext_lazy("state"))
    def badge(self, row: DeadTask) -> SafeString:
        return display.badge(row.state, row.get_state_display())

    @admin.display(description=gettext_lazy("why"))
    def why(self, row: DeadTask) -> str:
        """The error, or the reason where that says more than that it failed."""
        reason = row.reason.replace("_", " ")
        error = row.error_class.rpartition(".")[2]
        return (error if reason in ("", "failed") else reason) or reason or display.EMPTY

    @admin.display(description=gettext_lazy("failed"), ordering="failed_at")
    def ended(self, row: DeadTask) -> str | SafeString:
        return display.moment(row.failed_at, short=True)

    def detail_context(self, request: HttpRequest, row: DeadTask) -> dict[str, Any]:
        alike = DeadTask.objects.filter(fingerprint=row.fingerprint, state=DeadTask.State.DEAD).exclude(pk=row.pk)
        dead = row.state == DeadTask.State.DEAD
        return {
            "badge": self.badge(row),
            "facts": [
                (_("Reason"), row.reason.replace("_", " ") or display.EMPTY),
                (_("Queue"), self.queue_name(row)),
                (_("Priority"), row.priority),
                (_("Attempts"), row.attempts),
                (_("Run"), row.run),
                *([(_("Lost workers"), row.losses)] if row.losses else []),
                (_("Worker"), row.worker or display.EMPTY),
                (_("Enqueued"), display.moment(row.enqueued_at, milliseconds=True)),
                (_("First started"), display.moment(row.first_started_at, milliseconds=True)),
                (_("Failed"), display.moment(row.failed_at, milliseconds=True)),
                *(
                    [(_("Requeued or discarded"), display.moment(row.closed_at, milliseconds=True))]
                    if row.closed_at
                    else []
                ),
            ],
            "task_id": row.task_id,
            "ended_at": display.moment(row.failed_at, milliseconds=True),
            "alike": alike.order_by()[:1000].count(),
            "result": TaskResult.objects.filter(pk=row.task_id).only("pk", "status", "run").first(),
            "can_view_results": request.user.has_perm("django_taskq.view_taskresult"),
            "can_requeue": dead and self.has_requeue_permission(request),
            "can_discard": dead and self.has_discard_permission(request),
            "requeue_url": self.url("requeue", row.pk),
            "discard_url": self.url("discard", row.pk),
        }

    # --- requeue and discard ----------------------------------------------------------------------------------------

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_taskq.requeue")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_taskq.discard")

    def get_urls(self) -> list[URLPattern]:
        view, prefix = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("<path:object_id>/requeue/", view(self.requeue_view), name=f"{prefix}_requeue"),
            path("<path:object_id>/discard/", view(self.discard_view), name=f"{prefix}_discard"),
            *super().get_urls(),
        ]

    def requeue_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: requeues one."""
        return self._decide(request, object_id, self.has_requeue_permission(request), self._requeue)

    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: discards one."""
        return self._decide(request, object_id, self.has_discard_permission(request), self._discard)

    @admin.action(description=gettext_lazy("Requeue selected dead letters"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> None:
        self._requeue(request, queryset)

    @admin.action(description=gettext_lazy("Discard selected dead letters"), permissions=["discard"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> None:
        self._discard(request, queryset)

    def _decide(self, request: HttpRequest, object_id: str, allowed: bool, act: Any) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_object(request, unquote(object_id))
        if not allowed or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self.gone(request)
        act(request, DeadTask.objects.filter(pk=row.pk))
        return HttpResponseRedirect(self.url("change", row.pk))

    def _requeue(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> None:
        rows = list(queryset[: AT_ONCE + 1])
        summary = Summary()
        try:
            requeue_many([row.pk for row in rows[:AT_ONCE]], summary)
        except TaskqError as error:
            self.message_user(request, _("Stopped: %(error)s") % {"error": error}, messages.ERROR)
        if summary.sent:
            text = ngettext("%(count)d dead letter requeued.", "%(count)d dead letters requeued.", summary.sent)
            self.message_user(request, text % {"count": summary.sent}, messages.SUCCESS)
            self.log_decision(request, [summary.first] if summary.first else [], _("Requeued."), summary.sent)
        if summary.before:
            text = ngettext(
                "%(count)d had been requeued before: nothing was sent.",
                "%(count)d had been requeued before: nothing was sent.",
                summary.before,
            )
            self.message_user(request, text % {"count": summary.before}, messages.WARNING)
        for reason, count in summary.refused.most_common(5):
            text = ngettext("%(count)d was refused: %(reason)s", "%(count)d were refused: %(reason)s", count)
            self.message_user(request, text % {"count": count, "reason": reason}, messages.ERROR)
        if len(rows) > AT_ONCE:
            text = _("These were the first %(count)d. Requeue again for the rest.") % {"count": AT_ONCE}
            self.message_user(request, text, messages.WARNING)

    def _discard(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> None:
        rows = list(queryset[:2])
        count = discard_many(list(queryset.values_list("pk", flat=True)))
        if count:
            text = ngettext("%(count)d dead letter discarded.", "%(count)d dead letters discarded.", count)
            self.message_user(request, text % {"count": count}, messages.SUCCESS)
            self.log_decision(request, rows if len(rows) == 1 else [], _("Discarded."), count)
        else:
            self.message_user(request, _("Nothing to discard: it is dead no longer."), messages.WARNING)
