"""What the two record lists have in common: rows are read, not edited; ids are found exactly; deleting stays small."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.admin import display
from django_taskq.admin.paging import CappedPaginator, LightChangeList
from django_taskq.models import Ended
from django_taskq.redaction import REDACTED
from django_taskq.signals import operator_action

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

LISTED = 50  # objects the confirmation of a deletion names
DELETE_BATCH = 500


def back_to(request: HttpRequest, otherwise: str) -> str:
    """Where a form asked to return to, if that is on this site."""
    wanted = request.POST.get("next", "")
    local = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if local else otherwise


class RecordAdmin(ModelAdmin):
    """A list and a page of rows that the recorder writes."""

    detail_template = ""
    id_field = "id"  # holds the task's id
    ended_field = "finished_at"

    filters: tuple[type[SimpleListFilter], ...] = ()
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    paginator = CappedPaginator
    search_fields = ("id",)  # get_search_results says how
    search_help_text = gettext_lazy("The full id of a task.")
    sortable_by = ("ended",)
    show_facets = admin.ShowFacets.NEVER  # each would count a value of each filter

    class Media:
        css = {"all": ("django_taskq/taskq.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def may(self, request: HttpRequest, action: str) -> bool:
        """Whether the user has the permission that is named like the action."""
        return request.user.has_perm(f"django_taskq.{action}")

    def get_list_filter(self, request: HttpRequest) -> tuple[type[SimpleListFilter], ...]:
        return self.filters

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LightChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only the filters beside the list: others would scan a million rows, or trip over a NUL."""
        return any(lookup == chosen.parameter_name for chosen in self.filters)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, titled with what it lists."""
        return super().changelist_view(
            request, {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})}
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            wanted = uuid.UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        return queryset.filter(**{self.id_field: wanted}), False

    # --- columns ----------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("id"))
    def short_id(self, row: Any) -> SafeString:
        return display.short_id(getattr(row, self.id_field))

    @admin.display(description=gettext_lazy("task"))
    def task_name(self, row: Ended) -> str:
        return display.breakable(row.task) if row.task else _("(unknown)")

    @admin.display(description=gettext_lazy("queue"))
    def queue_name(self, row: Ended) -> str:
        return row.queue or display.EMPTY

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_made(self, row: Ended) -> int:
        return row.attempts

    # --- the page of one row ----------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A page to read, not a form."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self.gone(request)
        arguments = self._arguments(request, row)
        context = {
            **self.admin_site.each_context(request),
            "title": str(row.task or _("(unknown)")),
            "subtitle": None,
            "opts": self.opts,
            "original": row,
            "row": row,
            "arguments": arguments,
            "redacted": any(REDACTED in text for _name, text in arguments or ()),
            "steps": self.steps(row),
            "enqueued_at": display.moment(row.enqueued_at, milliseconds=True),
            "has_delete_permission": self.has_delete_permission(request, row),
            **self.detail_context(request, row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.detail_template, context)

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
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

    def steps(self, row: Any) -> list[display.Step]:
        """The attempts; the last one comes from the row itself."""
        ended: dt.datetime = getattr(row, self.ended_field)
        last = None
        if row.attempts and row.started_at is not None:
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

    def gone(self, request: HttpRequest) -> HttpResponse:
        """Back to the list: the row was pruned, or never was."""
        self.message_user(request, _("This record does not exist. Perhaps it has been pruned."), messages.WARNING)
        return HttpResponseRedirect(self.url("changelist"))

    def url(self, name: str, *args: Any) -> str:
        """The address of one of this model's admin views."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(name, args=args)

    # --- deleting, and the log --------------------------------------------------------------------------------------

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, int], set[Any], list[str]]:
        """Names some and counts the rest: nothing hangs on a record, and there may be a million of them."""
        rows = list(objs[: LISTED + 1])
        names = [str(row) for row in rows[:LISTED]]
        total = len(rows)
        if total > LISTED:
            total = objs.count() if isinstance(objs, QuerySet) else len(objs)
            more = total - LISTED
            names.append(ngettext("… and %(count)d more", "… and %(count)d more", more) % {"count": more})
        lacking = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return names, {self.opts.verbose_name_plural: total}, lacking, []

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """In batches by primary key, like the pruner: no transaction is long."""
        keys = queryset.order_by("pk").values_list("pk", flat=True)
        while batch := list(keys[:DELETE_BATCH]):
            self.model._base_manager.using(queryset.db).filter(pk__in=batch).delete()

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """One entry for all of them."""
        return self.log(request, list(queryset[:2]), DELETION, _("Deleted."), queryset.count())

    def decided(self, request: HttpRequest, action: str, rows: Sequence[Model], message: str, count: int) -> None:
        """Tells the log, and whoever listens, of a decision about `count` rows, of which `rows` names the only one."""
        if self.log(request, rows, CHANGE, message, count):
            target = str(rows[0].pk) if count == 1 and rows else ""
            operator_action.send_robust(sender=action, user=request.user, target=target, count=count)

    def log(self, request: HttpRequest, rows: Sequence[Model], flag: int, message: str, count: int) -> list[LogEntry]:
        """Who did what to how many: an entry of the row's own where it is one, else of the model's."""
        if not count:
            return []
        one = rows[0] if count == 1 and rows else None
        entry = LogEntry.objects.create(
            user_id=request.user.pk or 0,
            content_type_id=ContentType.objects.get_for_model(self.model).pk,
            object_id=None if one is None else str(one.pk),
            object_repr=self.counted(count) if one is None else str(one)[:200],
            action_flag=flag,
            change_message=message,
        )
        return [entry]

    def counted(self, count: int) -> str:
        """So many of these rows, in words."""
        return f"{count} {self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural}"
