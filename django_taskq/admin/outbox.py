"""The outbox: calls that wait in the database for a relay, and those that Redis refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq import outbox
from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.search import as_id
from django_taskq.announcements import of_cancel
from django_taskq.conf import get_settings
from django_taskq.core.message import Message
from django_taskq.exceptions import TaskqError
from django_taskq.models import OutboxEntry
from django_taskq.opening import shown_message
from django_taskq.redaction import redact_json

ERROR_SHOWN = 100  # characters in the list
AT_A_TIME = 500  # entries that one request cancels: each costs two round trips


class EntryStateFilter(SimpleListFilter):
    title, parameter_name = gettext_lazy("state"), "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[Any, Any]]:
        return list(OutboxEntry.State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() in OutboxEntry.State.values else queryset


class DatabaseFilter(SimpleListFilter):
    """Decides in OutboxEntryAdmin.get_queryset; here it is drawn."""

    title, parameter_name = gettext_lazy("database"), "database"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        others = get_settings().outbox_databases[1:]
        return [(alias, alias) for alias in others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset


@admin.register(OutboxEntry)
class OutboxEntryAdmin(RecordAdmin):
    """Entries are read, sent again, or cancelled; never deleted, which would lose a task without a trace."""

    id_field = "task_id"
    list_display = ("short_id", "task_name", "queue_name", "badge", "why", "written")
    list_display_links = ("short_id", "task_name")
    filters = (EntryStateFilter, DatabaseFilter)
    sortable_by = ("written",)
    search_help_text = gettext_lazy("The full id of a task")
    actions = ("send_selected", "cancel_selected")

    def in_use(self) -> bool:
        return outbox.in_use()

    def has_delete_permission(self, request: HttpRequest, obj: OutboxEntry | None = None) -> bool:
        return False

    def has_send_permission(self, request: HttpRequest) -> bool:
        """To have entries sent again."""
        return self.may(request, "send")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """To cancel entries, as any other task."""
        return self.may(request, "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEntry]:
        entries: QuerySet[OutboxEntry] = super().get_queryset(request)
        return entries.using(_database(request)).annotate(now=Now())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        id = as_id(search_term)
        return (queryset.filter(task_id=id) if id else queryset.none()), False

    def search_note(self, request: HttpRequest) -> str:
        term = request.GET.get("q", "").strip()
        return _("This is not the full id of a task.") if term and as_id(term) is None else ""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's own page, to be read."""
        return ModelAdmin.change_view(self, request, object_id, form_url, extra_context)

    def get_fields(self, request: HttpRequest, obj: OutboxEntry | None = None) -> tuple[str, ...]:
        arguments = ("args", "kwargs") if self.may(request, "view_arguments") else ()
        return ("task_id", "task", "queue", "state", "error", *arguments, "written")

    def get_readonly_fields(self, request: HttpRequest, obj: OutboxEntry | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj)

    # --- columns and fields -------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("state"))
    def badge(self, row: OutboxEntry) -> SafeString:
        return display.badge(row.state, row.get_state_display())

    @admin.display(description=gettext_lazy("error"))
    def why(self, row: OutboxEntry) -> str:
        return row.error if len(row.error) <= ERROR_SHOWN else f"{row.error[:ERROR_SHOWN]}…"

    @admin.display(description=gettext_lazy("written"), ordering="id")
    def written(self, row: Any) -> str | SafeString:
        # Without USE_TZ what the database calls now may be in any time zone; a span is the same in all of them.
        return display.moment(timezone.now() - (row.now - row.created_at), short=True)

    @admin.display(description=gettext_lazy("arguments"))
    def args(self, row: OutboxEntry) -> str:
        return _shown(_message(row).args)

    @admin.display(description=gettext_lazy("keyword arguments"))
    def kwargs(self, row: OutboxEntry) -> str:
        return _shown(_message(row).kwargs)

    # --- actions ------------------------------------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Send again what was refused"), permissions=["send"])
    def send_selected(self, request: HttpRequest, queryset: QuerySet[OutboxEntry]) -> None:
        refused = queryset.order_by().filter(state=OutboxEntry.State.REFUSED)
        rows = list(refused[:2])
        count = refused.update(state=OutboxEntry.State.WAITING, error="")
        outbox.nudge(queryset.db)
        text = ngettext("%(count)d entry will be sent again.", "%(count)d entries will be sent again.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.WARNING)
        self.decided(request, "send", rows, _("Sent again."), count)

    @admin.action(description=gettext_lazy("Cancel selected tasks"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[OutboxEntry]) -> None:
        rows = list(queryset.order_by("pk")[: AT_A_TIME + 1])
        cancelled: list[OutboxEntry] = []
        tell = of_cancel()
        try:
            for row in rows[:AT_A_TIME]:
                key, waiting = row.pk, outbox.Waiting(row, outbox.read(row))
                if outbox.cancel(waiting):
                    row.pk = key
                    cancelled.append(row)
                    if tell is not None:
                        tell(waiting.found)
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
        count = len(cancelled)
        text = ngettext("%(count)d task cancelled.", "%(count)d tasks cancelled.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.WARNING)
        if len(rows) > AT_A_TIME:
            self.message_user(request, _("There are more. Do it again."), messages.WARNING)
        self.decided(request, "cancel", cancelled[:2], _("Cancelled."), count)


def _database(request: HttpRequest) -> str:
    """The one that is asked for, here or by the list that led here; the first one otherwise."""
    aliases = get_settings().outbox_databases
    came_from = parse_qs(request.GET.get("_changelist_filters", ""))
    asked = request.GET.get("database") or came_from.get("database", [""])[0]
    return asked if asked in aliases else aliases[0]


def _message(row: OutboxEntry) -> Message:
    return shown_message(outbox.read(row).message, may=True, say=_)  # whoever may not see it does not get here


def _shown(raw: bytes) -> str:
    return display.pretty_json(redact_json(raw).decode("utf-8", "backslashreplace"))
