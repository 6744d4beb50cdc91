"""What the two record lists have in common: rows are read, not edited; ids are found exactly; deleting stays small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.admin import display
from django_taskq.admin.entries import write_entry
from django_taskq.admin.page import RecordPage
from django_taskq.admin.paging import WINDOW, CappedPaginator, LightChangeList
from django_taskq.admin.search import MATCHES, as_argument, as_id, with_argument
from django_taskq.models import Ended
from django_taskq.signals import operator_action

LISTED = 50  # objects the confirmation of a deletion names
DELETE_BATCH = 500


class RecordAdmin(RecordPage):
    """A list and a page of rows that the recorder writes."""

    filters: tuple[type[SimpleListFilter], ...] = ()
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    paginator = CappedPaginator
    search_fields = ("id",)  # get_search_results says how
    search_help_text = gettext_lazy("The full id of a task, or an argument: user_id:42")
    sortable_by = ("ended",)
    show_facets = admin.ShowFacets.NEVER  # each would count a value of each filter

    class Media:
        css = {"all": ("django_taskq/taskq.css", "django_taskq/live.css", "django_taskq/records.css")}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_list_filter(self, request: HttpRequest) -> tuple[type[SimpleListFilter], ...]:
        return self.filters

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LightChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only the filters beside the list: others would scan a million rows, or trip over a NUL."""
        return any(lookup == chosen.parameter_name for chosen in self.filters)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, titled with what it lists."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(
            request,
            {
                "title": title,
                "tabs": self.tabs(request),
                "search_note": self.search_note(request),
                **(extra_context or {}),
            },
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        if id := as_id(search_term):
            return queryset.filter(**{self.id_field: id}), False
        wanted = as_argument(search_term)
        # Whoever may not see arguments must not find them out by asking.
        if wanted is None or wanted.is_secret or not self.may(request, "view_arguments"):
            return queryset.none(), False
        return with_argument(queryset, wanted), False

    def search_note(self, request: HttpRequest) -> str:
        """What to know about the search, or about a filter that works like one."""
        term, note = request.GET.get("q", "").strip(), ""
        wanted = as_argument(term)
        if term and as_id(term) is None:
            if wanted is None:
                note = _("This is neither the full id of a task nor an argument like user_id:42.")
            elif wanted.is_secret:
                note = _("What such a key held is redacted and cannot be searched.")
            elif not self.may(request, "view_arguments"):
                note = _("Your account may not see arguments, so it cannot search them.")
            else:
                note = _("The arguments of the newest %(rows)d are searched, and the newest %(matches)d matches shown.")
        elif request.GET.get("worker"):
            note = _("The newest %(rows)d are looked through for a worker.")
        return note % {"rows": WINDOW, "matches": MATCHES}

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
        key, text = (None, self.counted(count)) if one is None else (str(one.pk), str(one))
        return [write_entry(request, self.model, message, key=key, text=text, flag=flag)]

    def counted(self, count: int) -> str:
        """So many of these rows, in words."""
        return f"{count} {self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural}"
