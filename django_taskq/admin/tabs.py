"""The way from page to page: the tabs above each, and addresses on whatever AdminSite it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst

from django_taskq.models import (
    DeadTask,
    Limit,
    OutboxEntry,
    Overview,
    PeriodicTask,
    Queue,
    TaskResult,
    TaskType,
    Worker,
)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

# The pages in the order of their tabs; also the names by which findings lead to them.
TABS = {
    "overview": Overview,
    "queues": Queue,
    "workers": Worker,
    "task_types": TaskType,
    "limits": Limit,
    "periodic": PeriodicTask,
    "dead": DeadTask,
    "results": TaskResult,
    "outbox": OutboxEntry,
}


class Tab(NamedTuple):
    """One page of the task queue."""

    name: str
    url: str
    here: bool


class Tabbed(ModelAdmin):
    """A page with tabs."""

    def tabs(self, request: HttpRequest) -> list[Tab]:
        """The pages that this site has and the user may see."""
        pages = [(model, self.admin_site._registry.get(model)) for model in TABS.values()]
        return [
            Tab(capfirst(str(model._meta.verbose_name_plural)), self.link(model), model is self.model)
            for model, page in pages
            if page is not None
            and page.has_view_permission(request)
            and (not isinstance(page, Tabbed) or page.in_use())
        ]

    def in_use(self) -> bool:
        """Whether there can be anything to see: only then it has a tab."""
        return True

    def link(self, model: type[Any], name: str = "changelist", *args: Any, query: str = "") -> str:
        """An address on this site; '' where the site has not registered the model."""
        try:
            url = reverse(f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)
        except NoReverseMatch:
            return ""
        return f"{url}?{query}" if query else url
