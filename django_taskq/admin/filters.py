"""The filters beside the lists. Each is served by an index; a value that makes no sense is ignored or finds nothing."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django.conf import settings
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_taskq.admin.paging import DISTINCT, distinct_values, newest
from django_taskq.models import DeadTask, TaskResult

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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


class WorkerFilter(ColumnFilter):
    """Without an index, which would cost a write for each row: among the newest rows, offering those of the last."""

    title, parameter_name = _("worker"), "worker"
    OFFERED_FROM = 2_000

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        rows = model_admin.model._default_manager.order_by(*model_admin.model._meta.ordering)
        names = set(rows.values_list("worker", flat=True)[: self.OFFERED_FROM]) - {""}
        if value := self.value():
            names.add(value)
        return [(name, name) for name in sorted(names)[:DISTINCT]]

    def matching(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return newest(queryset).filter(worker=value)


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
    """What ended in the last minutes, hours, days; or since a moment, `@` and epoch seconds, which does not move on."""

    title, parameter_name = _("time"), "since"
    column = "finished_at"
    SPANS = {
        "5m": (_("Last 5 minutes"), dt.timedelta(minutes=5)),
        "1h": (_("Last hour"), dt.timedelta(hours=1)),
        "24h": (_("Last 24 hours"), dt.timedelta(days=1)),
        "7d": (_("Last 7 days"), dt.timedelta(days=7)),
        "30d": (_("Last 30 days"), dt.timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        known: list[tuple[str, Any]] = [(value, title) for value, (title, _span) in self.SPANS.items()]
        value = self.value() or ""
        if value not in self.SPANS and (start := self._start()) is not None:
            local = timezone.localtime(start) if timezone.is_aware(start) else start
            known.append((value, _("Since %(moment)s") % {"moment": f"{local:%Y-%m-%d %H:%M:%S}"}))
        return known

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        start = self._start()
        return queryset if start is None else queryset.filter(**{f"{self.column}__gte": start})

    def _start(self) -> dt.datetime | None:
        value = self.value() or ""
        if value in self.SPANS:
            return timezone.now() - self.SPANS[value][1]
        if re.fullmatch(r"@\d{1,11}", value):
            start = _EPOCH + dt.timedelta(seconds=int(value[1:]))
            return start if settings.USE_TZ else timezone.make_naive(start)
        return None


def pinned(query: QueryDict) -> QueryDict:
    """The filters of an address, with a span that ends now as the moment it begins: they keep choosing the same."""
    span = SinceFilter.SPANS.get(query.get("since", ""))
    if span is None:
        return query
    fixed = query.copy()
    fixed["since"] = f"@{int((dt.datetime.now(dt.UTC) - span[1]).timestamp())}"
    return fixed


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
