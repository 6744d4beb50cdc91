"""Lists that stay fast on a million rows: counts that stop early, and the values of a column without a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connections, router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    BasePaginator = Paginator[Any]
else:
    BasePaginator = Paginator

COUNTED = 10_000  # rows a list counts and pages through; older ones are reached by filters
DISTINCT = 50  # values a filter offers
WINDOW = 100_000  # of the newest rows what no index serves is looked for in these


class CappedPaginator(BasePaginator):
    """Counts at most COUNTED rows. `truncated` says that there are more."""

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        return self.counted_rows.count() if isinstance(rows, QuerySet) else len(rows)

    @property
    def counted_rows(self) -> QuerySet[Any]:
        """What is counted: the time is in every index, so an index answers alone; the id would be fetched from the
        table, row by row."""
        rows: Any = self.object_list
        time = rows.model._meta.ordering[0].removeprefix("-")
        counted: QuerySet[Any] = rows.order_by().values(time)[: COUNTED + 1]
        return counted

    @cached_property
    def count(self) -> int:
        return min(self._found, COUNTED)

    @property
    def truncated(self) -> bool:
        return self._found > COUNTED


class LightChangeList(ChangeList):
    """Leaves the long texts of the rows in the database."""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Without what only says how the page is drawn."""
        filters: dict[str, Any] = super().get_filters_params(params)
        filters.pop("kinds", None)
        return filters

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows = super().get_queryset(request, *args, **kwargs)
        long = ("args", "kwargs", "result", "result_error", "error_message", "traceback", "history", "log", "raw")
        return rows.defer(*(field.name for field in self.opts.concrete_fields if field.name in long))


def distinct_values(model: type[Model], column: str) -> list[str]:
    """The first values of a text column other than "", in order, in one query of an index lookup a value.

    SELECT DISTINCT would read the whole index. See "Loose indexscan" in PostgreSQL's wiki for the method.
    """
    connection = connections[router.db_for_read(model)]
    table, name = connection.ops.quote_name(model._meta.db_table), connection.ops.quote_name(column)
    sql = f"""
        WITH RECURSIVE found (value) AS (
            SELECT MIN({name}) FROM {table} WHERE {name} > ''
            UNION ALL
            SELECT (SELECT MIN({name}) FROM {table} WHERE {name} > found.value AND {name} > '')
            FROM found WHERE found.value IS NOT NULL
        )
        SELECT value FROM found WHERE value IS NOT NULL LIMIT {DISTINCT}
    """  # noqa: S608 - names of our own model, quoted
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [value for (value,) in cursor.fetchall()]


def newest(rows: QuerySet[Any], most: int = WINDOW, *, among: QuerySet[Any] | None = None) -> QuerySet[Any]:
    """Of these rows those that belong to the newest `most` of all, or of `among`: a bound on what is scanned."""
    time = rows.model._meta.ordering[0].removeprefix("-")
    every = rows.model._default_manager.using(rows.db) if among is None else among
    start = every.order_by(f"-{time}").values_list(time, flat=True)[most - 1 : most].first()
    return rows if start is None else rows.filter(**{f"{time}__gte": start})
