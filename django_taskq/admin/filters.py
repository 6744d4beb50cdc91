"""The filters beside the lists. Each is served by an index; a value that makes no sense is ignored or finds nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_taskq.admin.paging import distinct_values
from django_taskq.models import DeadTask, TaskResult


class ColumnFilter(SimpleListFilter):
    """One of the values that a column holds."""

    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        values = distinct_values(model_admin.model, self.parameter_name)
        if (value := self.value()) and value not in values:
            values.append(value)
        return [(value, value) for value in values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        # No database can hold a NUL in a name, and PostgreSQL refuses to look for one.
        return queryset.none() if "\x00" in value else self.matching(queryset, value)

    def matching(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(**{self.parameter_name: value})


class QueueFilter(ColumnFilter):
    title, parameter_name = _("queue"), "queue"


class TaskFilter(ColumnFilter):
    title, parameter_name = _("task"), "task"


class ReasonFilter(ColumnFilter):
    title, parameter_name = _("reason"), "reason"


class ErrorClassFilter(ColumnFilter):
    title, parameter_name = _("error class"), "error_class"

    def matching(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        # The literal '' is what SQLite must see to use an index that leaves empty error classes out.
        return queryset.filter(error_class=value, error_class__gt=RawSQL("''", ()))


class StatusFilter(SimpleListFilter):
    title, parameter_name = _("status"), "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return list(TaskResult.Status.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(status=value) if value in TaskResult.Status.values else queryset


class StateFilter(SimpleListFilter):
    """Shows what is dead unless asked for something else: the others have been dealt with."""

    title, parameter_name = _("state"), "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [*DeadTask.State.choices, ("all", _("all"))]

    def choices(self, changelist: ChangeList) -> Any:
        chosen = self._chosen()
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": chosen == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        searching = not self.value() and request.GET.get("q")  # one id: whatever its state
        return queryset if self._chosen() == "all" or searching else queryset.filter(state=self._chosen())

    def _chosen(self) -> str:
        value = self.value()
        return value if value in {*DeadTask.State.values, "all"} else DeadTask.State.DEAD.value


class SinceFilter(SimpleListFilter):
    """What ended in the last minutes, hours, days."""

    title, parameter_name = _("time"), "since"
    column = "finished_at"
    SPANS = {
        "5m": (_("Last 5 minutes"), timedelta(minutes=5)),
        "1h": (_("Last hour"), timedelta(hours=1)),
        "24h": (_("Last 24 hours"), timedelta(days=1)),
        "7d": (_("Last 7 days"), timedelta(days=7)),
        "30d": (_("Last 30 days"), timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [(value, title) for value, (title, _span) in self.SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (value := self.value()) not in self.SPANS:
            return queryset
        return queryset.filter(**{f"{self.column}__gte": timezone.now() - self.SPANS[value][1]})


class FailedSinceFilter(SinceFilter):
    column = "failed_at"


class FingerprintFilter(SimpleListFilter):
    """Failures of one kind; offered by the page of a dead letter only."""

    title, parameter_name = _("kind of failure"), "fingerprint"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        value = self.value()
        return [(value, value)] if value and re.fullmatch(r"[0-9a-f]{16}", value) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(fingerprint=self.value())
