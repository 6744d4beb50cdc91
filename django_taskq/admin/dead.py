"""Dead letters: what failed for good, and the buttons that send it again or put it aside."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.bulk import BulkDecisions
from django_taskq.admin.current import Current
from django_taskq.admin.edit import EditArguments
from django_taskq.admin.filters import (
    ErrorClassFilter,
    FailedSinceFilter,
    FingerprintFilter,
    QueueFilter,
    ReasonFilter,
    StateFilter,
    TaskFilter,
)
from django_taskq.admin.kinds import GROUPED, MOST, SHOWN, kinds_of
from django_taskq.admin.page import back_to
from django_taskq.exceptions import TaskqError
from django_taskq.models import DeadTask, TaskResult
from django_taskq.requeue import Summary, discard_many, requeue_many

ACTIONS = ("requeue", "discard")


@admin.register(DeadTask)
class DeadTaskAdmin(BulkDecisions, EditArguments, RecordAdmin):
    """Requeueing and discarding have permissions of their own."""

    detail_template = "admin/django_taskq/deadtask_detail.html"
    id_field = "task_id"
    ended_field = "failed_at"
    list_display = ("short_id", "task_name", "queue_name", "badge", "why", "ended")
    list_display_links = ("short_id", "task_name")
    filters = (
        StateFilter, QueueFilter, TaskFilter, FailedSinceFilter, ReasonFilter, ErrorClassFilter, FingerprintFilter
    )  # fmt: skip
    actions = ("requeue_selected", "discard_selected")

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        """Without the state where all have the same."""
        every = request.GET.get("state") == "all" or request.GET.get("q")
        return tuple(column for column in self.list_display if every or column != "badge")

    # --- the list ---------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The kinds of failure above the dead letters themselves; both show what the filters choose."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            response.context_data |= self._kinds(request, response.context_data["cl"])
        return response

    def _kinds(self, request: HttpRequest, changelist: ChangeList) -> dict[str, Any]:
        """One kind alone is what the list shows already."""
        everything = "kinds" in request.GET
        filtered = bool(set(request.GET) - {"state", "kinds", "o", "p"})
        kinds, more = kinds_of(changelist.queryset, MOST if everything else SHOWN, filtered=filtered)
        for kind in kinds:
            query = {"fingerprint": kind.fingerprint, "p": None}
            kind.links = {"list": changelist.get_query_string(query), **self._bulk_links(request, changelist, query)}
        return {
            "counted": GROUPED if filtered and sum(kind.count for kind in kinds) >= GROUPED else 0,
            "shown_state": dict(DeadTask.State.choices).get(request.GET.get("state", "dead"), ""),
            "kinds": [] if "fingerprint" in request.GET else kinds,
            "more_kinds": changelist.get_query_string({"kinds": "all"}) if more and not everything else "",
            "for_all": self._bulk_links(request, changelist, {"p": None}) if changelist.result_count else {},
        }

    def _bulk_links(self, request: HttpRequest, changelist: ChangeList, query: dict[str, Any]) -> dict[str, str]:
        """Where to requeue or discard all of them, for who may, and where they are dead."""
        if request.GET.get("state", DeadTask.State.DEAD) not in (DeadTask.State.DEAD, "all"):
            return {}
        query = {**query, "kinds": None, "o": None}
        return {
            action: self.url(f"bulk_{action}") + changelist.get_query_string(query)
            for action in ACTIONS
            if self.may(request, action)
        }

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

    def detail_context(self, request: HttpRequest, row: DeadTask, now: Current) -> dict[str, Any]:
        alike = DeadTask.objects.filter(fingerprint=row.fingerprint, state=DeadTask.State.DEAD).exclude(pk=row.pk)
        result = TaskResult.objects.filter(pk=row.task_id).only("pk", "status", "run", "args", "kwargs").first()
        later = now.row if now.row is not None and now.row.run > row.run else None
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
            "result": result,
            "task_url": self.task_url(request, row.task_id),
            "later": later,
            "later_badge": display.badge(later.status, _(later.status)) if later else "",
            "was_edited": self._was_edited(row, later or result),
            **({} if later else self.tools(request, row)),
        }

    @staticmethod
    def _was_edited(row: DeadTask, following: TaskResult | None) -> bool:
        """Whether the run after this one got other arguments. (Edited secrets alone look the same.)"""
        if following is None or following.run != row.run + 1:
            return False
        return (following.args, following.kwargs) != (row.args, row.kwargs)

    def tools(self, request: HttpRequest, row: DeadTask) -> dict[str, Any]:
        """Where the buttons of a page lead, for who may press them; none where it has been dealt with."""
        if row.state != DeadTask.State.DEAD:
            return {}
        allowed = {action: self.may(request, action) for action in ACTIONS}
        allowed["edit"] = allowed["requeue"] and self.may(request, "view_arguments")
        return {f"{action}_url": self.url(action, row.pk) for action, may in allowed.items() if may}

    # --- requeue and discard ----------------------------------------------------------------------------------------

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "requeue")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "discard")

    def get_urls(self) -> list[URLPattern]:
        view, prefix = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        addresses: list[tuple[str, str, Any]] = [
            ("bulk/%s/", "bulk_%s", self.bulk_view),
            ("<path:object_id>/%s/", "%s", self.decide_view),
        ]
        own = [
            path(address % action, view(method), {"action": action}, name=f"{prefix}_{name % action}")
            for address, name, method in addresses
            for action in ACTIONS
        ]
        own.append(path("<path:object_id>/edit/", view(self.edit_view), name=f"{prefix}_edit"))
        return [*own, *super().get_urls()]

    def decide_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        """POST: requeues or discards one."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_object(request, unquote(object_id))
        if not self.may(request, action) or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self.gone(request)
        (self._requeue if action == "requeue" else self._discard)(request, [row.pk])
        return HttpResponseRedirect(back_to(request, self.url("change", row.pk)))

    @admin.action(description=gettext_lazy("Requeue selected dead letters"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> HttpResponse | None:
        return self._decide_selected(request, queryset, "requeue")

    @admin.action(description=gettext_lazy("Discard selected dead letters"), permissions=["discard"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[DeadTask]) -> HttpResponse | None:
        return self._decide_selected(request, queryset, "discard")

    def _decide_selected(self, request: HttpRequest, queryset: QuerySet[DeadTask], action: str) -> HttpResponse | None:
        """Those of one page at once; everything that matches is counted and confirmed first."""
        if request.POST.get("select_across") == "1":
            changelist = self.get_changelist_instance(request)
            links = self._bulk_links(request, changelist, {"p": None})
            return HttpResponseRedirect(links.get(action) or self.url("changelist"))
        (self._requeue if action == "requeue" else self._discard)(request, list(queryset.values_list("pk", flat=True)))
        return None

    def _requeue(self, request: HttpRequest, keys: list[int]) -> None:
        summary = Summary()
        try:
            requeue_many(keys, summary)
        except TaskqError as error:
            self.message_user(request, _("Stopped: %(error)s") % {"error": error}, messages.ERROR)
        if summary.sent:
            text = ngettext("%(count)d dead letter requeued.", "%(count)d dead letters requeued.", summary.sent)
            self.message_user(request, text % {"count": summary.sent}, messages.SUCCESS)
            rows = [summary.first] if summary.first else []
            self.decided(request, "requeue", rows, _("Requeued."), summary.sent)
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

    def _discard(self, request: HttpRequest, keys: list[int]) -> None:
        rows = list(DeadTask.objects.filter(pk__in=keys)[:1]) if len(keys) == 1 else []
        count = discard_many(keys)
        if count:
            text = ngettext("%(count)d dead letter discarded.", "%(count)d dead letters discarded.", count)
            self.message_user(request, text % {"count": count}, messages.SUCCESS)
            self.decided(request, "discard", rows, _("Discarded."), count)
        else:
            self.message_user(request, _("Nothing to discard: it is dead no longer."), messages.WARNING)
