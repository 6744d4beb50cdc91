"""The list of results and the page of one."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from django_taskq.admin import paging
from django_taskq.core.ids import new_id
from django_taskq.models import TaskResult
from tests.records.outcomes import NOW, failed, succeeded
from tests.web.conftest import Allowed, only_dead, only_result, record

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/taskresult/"
HOSTILE = "<script>alert(1)</script>\"'&"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


def page(row: TaskResult) -> str:
    return f"{LIST}{row.pk}/change/"


def listed(client: Client, **query: str) -> set[str]:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return {row.task for row in response.context["cl"].result_list}


def test_the_list_shows_what_matters_newest_first(admin: Client) -> None:
    record(succeeded(task="shop.alpha"), succeeded(task="shop.omega", finished=NOW + 60, started=NOW + 58))
    response = admin.get(LIST)
    assert [row.task for row in response.context["cl"].result_list] == ["shop.omega", "shop.alpha"]
    content = response.content.decode()
    for shown in ("default", "succeeded", "500 ms", "2.00 s"):
        assert shown in content


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "failed"}, {"shop.bad"}),
        ({"status": "nonsense"}, {"shop.good", "shop.bad"}),
        ({"queue": "mail"}, {"shop.good"}),
        ({"queue": "none\x00"}, set()),
        ({"task": "shop.bad"}, {"shop.bad"}),
        ({"task": "shop.gone"}, set()),
        ({"error_class": "smtplib.SMTPServerDisconnected"}, {"shop.bad"}),
        ({"since": "1h"}, {"shop.good"}),
        ({"since": "a year"}, {"shop.good", "shop.bad"}),
    ],
)
def test_filters(admin: Client, query: dict[str, str], found: set[str]) -> None:
    record(succeeded(task="shop.good", queue="mail"), failed(task="shop.bad"))
    TaskResult.objects.filter(task="shop.good").update(finished_at=timezone.now() - timedelta(minutes=1))
    assert listed(admin, **query) == found


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_list_since_a_moment_says_so(admin: Client, settings: SettingsWrapper, use_tz: bool) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "Asia/Tokyo", use_tz
    page = admin.get("/admin/django_taskq/taskresult/", {"since": "@1767225600"})
    assert "Since 2026-01-01 09:00:00" in page.content.decode()


def test_an_id_is_found_exactly_and_whole(admin: Client) -> None:
    record(succeeded(task="shop.wanted"), succeeded(task="shop.other"))
    id = TaskResult.objects.get(task="shop.wanted").pk
    for spelling in (str(id), f" {id} ", id.hex, str(id).upper()):
        assert listed(admin, q=spelling) == {"shop.wanted"}
    for nonsense in (str(id)[:8], "%", "'; DROP TABLE", str(uuid.uuid4()), "é" * 300):
        assert listed(admin, q=nonsense) == set()


@pytest.mark.parametrize("query", ["kwargs__contains=x", "result=%00", "task__regex=(a%2B)%2B", "id__gt=1"])
def test_other_lookups_are_refused(admin: Client, query: str) -> None:
    assert admin.get(f"{LIST}?{query}").status_code == 400


@pytest.mark.parametrize("query", ["p=99999999999999999999", "p=-1", "p=x", "o=9.9.9", "o=-2", "all=", "e=1", "q=%00"])
def test_odd_parameters_do_no_harm(admin: Client, query: str) -> None:
    record(succeeded())
    assert admin.get(f"{LIST}?{query}", follow=True).status_code == 200


def test_the_list_counts_no_further_than_it_pages(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "COUNTED", 120)
    record(*[succeeded() for _ in range(200)])
    response = admin.get(LIST)
    assert response.context["cl"].result_count == 120
    assert b"The newest 120 are listed" in response.content
    assert len(admin.get(f"{LIST}?p=3").context["cl"].result_list) == 20


def test_a_list_costs_few_queries_and_no_long_texts(admin: Client, django_assert_max_num_queries: object) -> None:
    record(*[failed() for _ in range(60)])
    admin.get(LIST)
    with django_assert_max_num_queries(9) as queries:  # type: ignore[operator]
        admin.get(LIST)
    rows = [query["sql"] for query in queries.captured_queries if "taskresult" in query["sql"]]
    assert not any("traceback" in sql or "kwargs" in sql for sql in rows)


def test_the_page_tells_the_whole_story(admin: Client) -> None:
    record(failed())
    content = admin.get(page(only_result())).content.decode()
    for shown in (
        str(only_result().pk), "shop.send", "smtplib.SMTPServerDisconnected", "SMTP server temporarily unavailable",
        "Attempt 1", "Attempt 2", "retry", "host:1:abcd", "Enqueued", "&quot;template&quot;: &quot;hi&quot;", "<svg",
    ):  # fmt: skip
        assert shown in content, shown


def test_the_result_is_shown(admin: Client) -> None:
    record(succeeded(result=b'{"sent":[1,2]}', kwargs=b'{"token":"t0p"}'))
    content = admin.get(page(only_result())).content.decode()
    assert "Arguments and result" in content
    assert "&quot;sent&quot;" in content
    assert "t0p" not in content


def test_every_hostile_text_is_escaped(admin: Client) -> None:
    json = b'{"a":"<script>alert(1)</script>"}'
    values = {"task": HOSTILE, "queue": HOSTILE, "worker": HOSTILE, "kwargs": json, "reason": HOSTILE}
    record(
        failed(**values, error_class=HOSTILE, error_message=HOSTILE, traceback=HOSTILE),
        succeeded(**values, result=json, result_error=HOSTILE),
    )
    urls = [LIST, "/admin/django_taskq/deadtask/", f"/admin/django_taskq/deadtask/{only_dead().pk}/change/"]
    for url in [*urls, *[page(row) for row in TaskResult.objects.all()]]:
        content = admin.get(url).content.decode()
        assert "<script>alert" not in content
        assert ESCAPED in content.replace("<wbr>", "")


def test_no_page_needs_more_than_the_sites_own_files(admin: Client) -> None:
    """What `default-src 'self'` would block: inline scripts, styles and handlers of ours."""
    record(failed())
    for url in (page(only_result()), f"/admin/django_taskq/deadtask/{only_dead().pk}/change/"):
        content = admin.get(url).content.decode()
        main = content[content.index('id="content-main"') :]
        ours = main[: main.index("<!-- END Content -->")]
        assert not re.search(r"<(script|style)|<[^>]*\s(style|on\w+)=", ours)
        assert "django_taskq/taskq.css" in content


def test_strange_json_does_not_break_the_page(admin: Client) -> None:
    for args in (b"[" * 5000 + b"]" * 5000, b"not json", b"", b'["\\ud800"]', b'["' + b"x" * 100_000 + b'"]'):
        TaskResult.objects.all().delete()
        record(succeeded(id=new_id(), args=args))
        response = admin.get(page(only_result()))
        assert response.status_code == 200
        assert len(response.content) < 200_000


def test_strange_history_does_not_break_the_page(admin: Client) -> None:
    record(failed())
    histories = (
        "",
        "null",
        "{",
        "[1]",
        '[{"number":1}]',
        '[{"number":1,"started":1e300,"ended":"x"}]',
        '[{"number":"x"}]',
    )
    for history in histories:
        TaskResult.objects.update(history=history)
        assert admin.get(page(only_result())).status_code == 200


def test_a_record_that_is_gone_leads_back_to_the_list(admin: Client) -> None:
    for id in (uuid.uuid4(), "nonsense", "1", "%00"):
        response = admin.get(f"{LIST}{id}/change/", follow=True)
        assert response.redirect_chain
        assert b"does not exist" in response.content


def test_results_are_read_only(admin: Client) -> None:
    record(succeeded())
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(page(only_result()), {"status": "failed"}).status_code == 405
    assert only_result().status == "succeeded"


def test_arguments_need_their_own_permission(allowed: Allowed) -> None:
    record(succeeded(kwargs=b'{"to":"ada@example.com"}', result=b'"grace@example.com"'))
    seen = allowed("view_taskresult").get(page(only_result())).content
    assert b"ada@" not in seen
    assert b"grace@" not in seen
    assert b"may not see arguments" in seen
    assert b"ada@" in allowed("view_taskresult", "view_arguments").get(page(only_result())).content


def test_without_permission_there_is_nothing_to_see(allowed: Allowed) -> None:
    record(succeeded())
    nobody = allowed()
    assert nobody.get(LIST).status_code == 403
    assert nobody.get(page(only_result())).status_code == 403
    assert Client().get(page(only_result())).status_code == 302


def test_deleting_needs_its_permission_and_is_logged_once(allowed: Allowed) -> None:
    record(*[succeeded() for _ in range(60)])
    chosen = {"action": "delete_selected", "_selected_action": [str(TaskResult.objects.first().pk)], "select_across": 1}  # type: ignore[union-attr]
    reader = allowed("view_taskresult")
    reader.post(LIST, {**chosen, "post": "yes"})
    assert TaskResult.objects.count() == 60
    deleter = allowed("view_taskresult", "delete_taskresult")
    assert b"and 10 more" in deleter.post(LIST, chosen).content
    deleter.post(LIST, {**chosen, "post": "yes"})
    assert TaskResult.objects.count() == 0
    assert [entry.object_repr for entry in LogEntry.objects.all()] == ["60 task results"]
