"""Ways from the live pages to others, for whoever may go there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from django_taskq.admin.tabs import Tabbed
from django_taskq.models import TaskResult


def seen(
    page: Tabbed, request: HttpRequest, model: type[Any], name: str = "changelist", *args: Any, query: str = ""
) -> str:
    """The address of a page of another model; '' where this site does not have it or the user may not see it."""
    other = page.admin_site._registry.get(model)
    return page.link(model, name, *args, query=query) if other and other.has_view_permission(request) else ""


def task_urls(page: Tabbed, request: HttpRequest) -> Callable[[str], str]:
    """The address of a task's page, by its id."""
    if not seen(page, request, TaskResult):
        return lambda _id: ""
    return lambda id: page.link(TaskResult, "change", id)
