"""What the databases do for the lists: an index serves each filter, and nobody reads a whole table."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.db.models import Count, Max, QuerySet
from django.test import Client, RequestFactory

from django_taskq.admin import DeadTaskAdmin, TaskResultAdmin
from django_taskq.admin.kinds import kinds_of
from django_taskq.admin.paging import CappedPaginator, newest
from django_taskq.bulk import Writer
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import NOW, entries, failed, succeeded

pytestmark = pytest.mark.django_db
ROWS = 1_000
ADMINS = {TaskResult: TaskResultAdmin, DeadTask: DeadTaskAdmin}
FILTERS = [
    (TaskResult, ""),
    (TaskResult, "status=failed"),
    (TaskResult, "queue=queue3"),
    (TaskResult, "task=task7"),
    (TaskResult, "error_class=shop.Error5"),
    (TaskResult, f"since=@{int(NOW) + ROWS - 60}"),
    (TaskResult, "status=failed&task=task7"),
    (TaskResult, "queue=queue3&task=task7"),
    (TaskResult, "error_class=shop.Error4&queue=queue3"),
    (DeadTask, ""),
    (DeadTask, "state=all"),
    (DeadTask, "state=all&queue=queue3"),
    (DeadTask, "state=all&task=task7"),
    (DeadTask, "reason=timeout"),
    (DeadTask, "error_class=shop.Error5"),
    (DeadTask, "fingerprint=0000000000000000"),
]


@pytest.fixture
def full() -> None:
    writer = Writer()
    for start in range(0, ROWS, 1000):
        writer.write(entries(*[
            (failed if number % 4 == 0 else succeeded)(
                task=f"task{number % 20}", queue=f"queue{number % 8}", finished=NOW + number, started=NOW + number,
                **({"error_class": f"shop.Error{number % 10}", "traceback": "x" * 2000,
                    "reason": "timeout" if number % 40 == 0 else "failed"} if number % 4 == 0 else {}),
            )
            for number in range(start, start + 1000)
        ]))  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # so few rows are read faster without an index


def plan(rows: QuerySet[Any]) -> str:
    return rows.explain()


def chosen(model: Any, query: str, rf: RequestFactory, admin_user: Any) -> QuerySet[Any]:
    from django.contrib.admin import site

    request = rf.get(f"/?{query}")
    request.user = admin_user
    page = ADMINS[model](model, site)
    return page.get_changelist_instance(request).queryset


def scans(text: str) -> list[str]:
    """Steps of a plan that read a table from one end to the other, and not in the order of an index."""
    lines = re.findall(r"Seq Scan on django_taskq_\w+|SCAN (?:TABLE )?django_taskq_\w+(?: USING.*)?", text)
    return [line for line in lines if " USING " not in line]


@pytest.mark.parametrize(("model", "query"), FILTERS)
def test_an_index_serves_every_filter(full: None, rf: RequestFactory, admin_user: Any, model: Any, query: str) -> None:
    rows = chosen(model, query, rf, admin_user)
    for each in (rows[:50], CappedPaginator(rows, 50).counted_rows):
        assert scans(plan(each)) == [], plan(each)


@pytest.mark.parametrize(
    "query",
    ["queue=queue3&task=task7", "status=failed&queue=queue3&task=task7", "error_class=shop.Error4&queue=queue3",
     "error_class=shop.Error4&task=task4&status=failed"],
)  # fmt: skip
def test_what_two_filters_choose_is_counted_from_an_index_alone(
    full: None, rf: RequestFactory, admin_user: Any, query: str
) -> None:
    """Rows that match one of them only are passed over without a look at them: there may be a million."""
    text = plan(CappedPaginator(chosen(TaskResult, query, rf, admin_user), 50).counted_rows)
    if connection.vendor == "sqlite":  # PostgreSQL takes several where rows are few
        assert "COVERING INDEX taskq_result" in text, text
    else:
        assert "Seq Scan" not in text, text


def test_the_newest_are_found_by_their_time(full: None) -> None:
    rows = TaskResult.objects.order_by("-finished_at")
    text = plan(rows.values_list("finished_at")[499:500])
    assert "taskq_result_finished" in text
    assert scans(plan(newest(rows, 300).filter(worker="nobody"))) == []


def test_kinds_are_counted_from_an_index(full: None) -> None:
    dead = DeadTask.objects.filter(state="dead")
    found, _more = kinds_of(dead, 5, filtered=False)
    assert sum(kind.count for kind in found) > 0
    counted = dead.order_by().values("fingerprint").annotate(count=Count("pk"), last=Max("failed_at"))
    if connection.vendor == "sqlite":  # PostgreSQL takes any of several
        assert "COVERING INDEX taskq_dead_fingerprint" in plan(counted)
    assert "Seq Scan" not in plan(counted)
    assert scans(plan(newest(dead, 100, among=dead).order_by().values("fingerprint"))) == []


def test_no_page_counts_further_than_it_pages(full: None, admin_client: Client) -> None:
    with connection.execute_wrapper(_refuse_whole_counts):
        assert admin_client.get("/admin/django_taskq/taskresult/").status_code == 200


def _refuse_whole_counts(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    assert "COUNT(" not in sql.upper() or "LIMIT" in sql.upper() or "taskresult" not in sql, sql
    return execute(sql, params, many, context)
