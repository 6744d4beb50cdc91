"""What all pages of records have in common: nothing inline, nothing from elsewhere, on any AdminSite."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin import AdminSite
from django.test import Client
from django.urls import include, path

from django_taskq.admin import DeadTaskAdmin, TaskResultAdmin
from django_taskq.broker import Broker, Submission
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import failed
from tests.web.conftest import Allowed, only_dead, record
from tests.web.test_bulk import begin

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db

both = AdminSite(name="both")
both.register(DeadTask, DeadTaskAdmin)
both.register(TaskResult, TaskResultAdmin)
results = AdminSite(name="results")
results.register(TaskResult, TaskResultAdmin)
urlpatterns = [path("both/", both.urls), path("results/", results.urls), path("", include("testproject.urls"))]


def addresses(site: str, broker: Broker) -> list[str]:
    """Every page of both models, with something on it."""
    record(failed(), failed(), failed(kwargs=b'{"password":"x"}'))
    message = Message(new_id(), "shop.send", b"[7]")
    broker.enqueue([Submission(message, "default")])
    dead, letters, tasks = only_letter(), f"/{site}/django_taskq/deadtask/", f"/{site}/django_taskq/taskresult/"
    return [
        letters, f"{letters}?state=all", f"{letters}{dead.pk}/change/", f"{letters}{dead.pk}/edit/",
        f"{letters}bulk/requeue/", tasks, f"{tasks}?q=user_id:42", f"{tasks}{dead.task_id}/change/",
        f"{tasks}{uuid.UUID(bytes=message.id)}/change/",
    ]  # fmt: skip


def only_letter() -> DeadTask:
    dead = DeadTask.objects.order_by("pk").first()
    assert dead is not None
    return dead


def ours(content: str) -> str:
    """Without the script and the style sheets of the admin itself, all of which are files."""
    return content[content.index('<body class="') : content.index("<!-- END Content -->")]


def test_no_page_needs_more_than_files_of_the_site(admin: Client, broker: Broker) -> None:
    pages = [admin.get(url).content.decode() for url in addresses("admin", broker)]
    url = "/admin/django_taskq/deadtask/bulk/requeue/"
    pages.append(admin.post(url, {"run": begin(admin, url)}).content.decode())
    for content in pages:
        assert not re.search(r"<style|<[^>]*\s(style|on\w+)=", ours(content))
        assert not re.search(r"<script(?![^>]* src=)[^>]*>", ours(content).replace(' type="application/json"', " src="))
        assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", ours(content))


def test_they_stay_on_the_site_they_are_on(admin: Client, broker: Broker, settings: SettingsWrapper) -> None:
    settings.ROOT_URLCONF = "tests.web.test_pages"
    for url in addresses("both", broker):
        response = admin.get(url)
        assert response.status_code == 200, url
        assert "/admin/django_taskq/" not in response.content.decode(), url


def test_results_do_without_dead_letters(admin: Client, broker: Broker, settings: SettingsWrapper) -> None:
    settings.ROOT_URLCONF = "tests.web.test_pages"
    record(failed())
    response = admin.get(f"/results/django_taskq/taskresult/{only_dead().task_id}/change/")
    assert response.status_code == 200
    assert b"deadtask" not in response.content


def test_tabs_lead_only_to_what_may_be_seen(allowed: Allowed, broker: Broker) -> None:
    content = allowed("view_deadtask", "view_taskresult").get("/admin/django_taskq/deadtask/").content.decode()
    tabs = content[content.index('class="tq-tabs"') : content.index("</nav>", content.index('class="tq-tabs"'))]
    assert re.findall(r'href="([^"]+)"', tabs) == ["/admin/django_taskq/deadtask/", "/admin/django_taskq/taskresult/"]
    assert 'aria-current="page">Dead letters' in tabs
