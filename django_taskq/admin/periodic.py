"""Periodic tasks: when they run next and what became of the last run; enable, edit, run now, back to the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.admin import display
from django_taskq.admin.figures import count
from django_taskq.admin.links import task_urls
from django_taskq.admin.periodic_display import badge_of, last_run_of, notes_of
from django_taskq.admin.periodic_form import ARGUMENTS, FIELDS, PeriodicForm
from django_taskq.admin.tabs import Tabbed
from django_taskq.exceptions import TaskqError
from django_taskq.periodic import actions
from django_taskq.periodic.arguments import shown
from django_taskq.periodic.status import next_ticks, results_of, schedule_in_words, statuses
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import lookup
from django_taskq.signals import operator_action

NEXT = 5  # runs that a page shows


class PeriodicChangeList(ChangeList):
    """Rows with what Redis and the records know of them, each asked once for a page."""

    model_admin: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = list(self.result_list)
        results, url_of = results_of(found), task_urls(self.model_admin, request)
        for row, status in zip(found, statuses(actions.redis_now(), found), strict=True):
            row.status, row.run = status, last_run_of(row, results.get(row.last_task), url_of)
        self.result_list = found


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(Tabbed):
    """Rows that code declares can be disabled and changed, and say so; others can be made here."""

    form = PeriodicForm
    list_display = ("name", "words", "next_run", "last_run", "state")
    list_per_page = 100
    search_fields = ("name", "task")
    actions = ("enable_selected", "disable_selected", "run_selected")

    class Media:
        css = {"all": ("django_taskq/taskq.css", "django_taskq/live.css", "django_taskq/records.css")}

    # --- the list -----------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PeriodicChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, with tabs."""
        context = {"title": capfirst(self.opts.verbose_name_plural), "tabs": self.tabs(request)}
        return super().changelist_view(request, context | (extra_context or {}))

    @admin.display(description=gettext_lazy("schedule"))
    def words(self, row: PeriodicTask) -> str:
        return schedule_in_words(row)

    @admin.display(description=gettext_lazy("next run"))
    def next_run(self, row: Any) -> str | SafeString:
        return display.moment(row.status.next, short=True)

    @admin.display(description=gettext_lazy("last run"))
    def last_run(self, row: Any) -> str | SafeString:
        text: str | SafeString = row.run
        return text

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Any) -> SafeString:
        return badge_of(row.status)

    # --- the page of one ----------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> tuple[str, ...]:
        """Who may not edit them is shown arguments without secrets; who may not see them, none.

        What is sealed can be edited where it can be opened.
        """
        may_see = request.user.has_perm("django_taskq.view_arguments")
        fields = tuple(field for field in FIELDS if may_see or field not in ARGUMENTS)
        if obj is None or self.has_change_permission(request, obj):
            return fields
        return tuple(f"shown_{field}" if field in ARGUMENTS else field for field in fields)

    @admin.display(description=gettext_lazy("arguments"))
    def shown_args(self, row: PeriodicTask) -> str:
        return shown(row, may=True)[0]

    @admin.display(description=gettext_lazy("keyword arguments"))
    def shown_kwargs(self, row: PeriodicTask) -> str:
        return shown(row, may=True)[1]

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> tuple[str, ...]:
        """The name is that of the ticks; code says what its own rows run."""
        if obj is None:
            return ()
        return ("name", "task") if obj.declared else ("name",)

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """What code declares would be back at once: it is disabled instead."""
        declared = obj is not None and obj.declared and obj.removed_at is None
        return not declared and super().has_delete_permission(request, obj)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_taskq.run")

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The form below what is known of it."""
        row = self.get_object(request, unquote(object_id)) if object_id else None
        context: dict[str, Any] = {"tabs": self.tabs(request)}
        if row is not None and self.has_view_permission(request, row):
            context |= self._known(request, row)
        return super().changeform_view(request, object_id, form_url, context | (extra_context or {}))

    def _known(self, request: HttpRequest, row: PeriodicTask) -> dict[str, Any]:
        now = actions.redis_now()
        [status] = statuses(now, [row])
        note, may_change = status.note, self.has_change_permission(request, row)
        last = last_run_of(row, results_of([row]).get(row.last_task), task_urls(self, request))
        facts = [
            (_("Runs"), schedule_in_words(row)),
            (_("Last run"), last),
            (_("Sent"), count(note.fired)),
            (_("Of these late"), count(note.late)),
            (_("Missed"), count(note.missed)),
            (_("Left out"), count(note.overlapped)),
        ]
        may_run = self.has_run_permission(request) and lookup(row.task) is not None
        return {
            "facts": facts,
            "badge": badge_of(status),
            "notes": list(notes_of(status)),
            "next_runs": [display.moment(tick) for tick in next_ticks(row, now, NEXT)] if row.is_active else [],
            "run_url": self.link(self.model, "run", row.pk) if may_run else "",
            "follow_url": self.link(self.model, "follow", row.pk) if row.changed and may_change else "",
        }

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        """Only what was edited: schedulers write to the same row."""
        before = PeriodicTask.objects.filter(pk=obj.pk).first() if change else None
        more = {"since": actions.redis_now()} if before is None else actions.edited(obj, before)
        for field, value in more.items():
            setattr(obj, field, value)
        # A form does not have what its user may not see; its cleaned data has what was checked.
        for field in ARGUMENTS:
            if field in form.cleaned_data:
                setattr(obj, field, form.cleaned_data[field])
        obj.save(update_fields=[*form.cleaned_data, *more] if before is not None else None)
        action = "edit" if change else "add"
        operator_action.send_robust(sender=action, user=request.user, target=obj.name, count=1)

    def delete_model(self, request: HttpRequest, obj: PeriodicTask) -> None:
        self.delete_queryset(request, PeriodicTask.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """With what Redis has noted of them."""
        names = list(queryset.values_list("name", flat=True))
        super().delete_queryset(request, queryset)
        try:
            actions.forget(names)
        except TaskqError as error:
            self.message_user(request, str(error), messages.WARNING)

    # --- acting -------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        views: dict[str, Callable[..., HttpResponse]] = {"run": self.run_view, "follow": self.follow_view}
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"{prefix}_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: sends the task once, now."""
        return self._post(request, object_id, self.has_run_permission(request), self._run)

    def follow_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: back to what the code says."""
        return self._post(request, object_id, self.has_change_permission(request), self._follow)

    def _post(
        self, request: HttpRequest, object_id: str, may: bool, act: Callable[[HttpRequest, PeriodicTask], None]
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_object(request, unquote(object_id))
        if not may or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return HttpResponseRedirect(self.link(self.model))
        act(request, row)
        return HttpResponseRedirect(self.link(self.model, "change", row.pk))

    def _run(self, request: HttpRequest, row: PeriodicTask) -> None:
        try:
            handle = actions.run_now(row)
        except TaskqError as error:
            self.message_user(request, f"{row.name}: {error}", messages.ERROR)
            return
        text = _("Sent as %(id)s.") % {"id": handle.id}
        url = task_urls(self, request)(handle.id)
        shown = format_html('{}: <a href="{}">{}</a>', row.name, url, text) if url else f"{row.name}: {text}"
        self.message_user(request, shown, messages.SUCCESS)
        self._tell(request, "run", row, text)

    def _follow(self, request: HttpRequest, row: PeriodicTask) -> None:
        if actions.follow_code(row):
            text = _("Back to what the code says.")
            self.message_user(request, text, messages.SUCCESS)
            self._tell(request, "follow", row, text)

    def _tell(self, request: HttpRequest, action: str, row: PeriodicTask, text: str) -> None:
        self.log_change(request, row, text)
        operator_action.send_robust(sender=action, user=request.user, target=row.name, count=1)

    @admin.action(description=gettext_lazy("Enable selected periodic tasks"), permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._enable(request, queryset, True)

    @admin.action(description=gettext_lazy("Disable selected periodic tasks"), permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._enable(request, queryset, False)

    def _enable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask], enabled: bool) -> None:
        changed = [row for row in queryset if actions.set_enabled(row, enabled)]
        for row in changed:
            self._tell(request, "enable" if enabled else "disable", row, _("Enabled.") if enabled else _("Disabled."))
        text = ngettext("%(count)d periodic task changed.", "%(count)d periodic tasks changed.", len(changed))
        self.message_user(request, text % {"count": len(changed)})

    @admin.action(description=gettext_lazy("Run selected periodic tasks now"), permissions=["run"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        for row in queryset:
            self._run(request, row)
