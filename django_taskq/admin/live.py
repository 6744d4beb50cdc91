"""What the live pages have in common: how they are mounted, who may see them, how they are drawn and refreshed.

Each is the "list" of a proxy model without rows of its own: that puts it into the index and the side bar of every
AdminSite that registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.cache import patch_vary_headers
from django.utils.text import capfirst

from django_taskq.admin.entries import write_entry
from django_taskq.admin.figures import moment_of
from django_taskq.admin.look import Look
from django_taskq.admin.tabs import Tabbed
from django_taskq.signals import operator_action

FRAGMENT = "X-Taskq-Fragment"  # the header with which a page refreshes itself


class LiveAdmin(Tabbed):
    """A page of live numbers. The permission `monitor` shows it; what may be done there has permissions of its own."""

    template = ""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_taskq.monitor")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        """The page, and nothing of what else Django offers for a model: there are no rows."""
        return [self.route("", self.changelist_view, "changelist")]

    def route(self, address: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
        """One view behind the site's log-in."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        guarded: Callable[..., HttpResponse] = self.admin_site.admin_view(view)
        return path(address, guarded, name=name)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The page itself."""
        self.require(request, "monitor")
        return self.page(request, self.template, {**self.content(request), **(extra_context or {})})

    def content(self, request: HttpRequest) -> dict[str, Any]:
        """What the page's template needs besides."""
        return {}

    def page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        """Draws a whole page, or only its live part for the script that refreshes it."""
        request.current_app = self.admin_site.name
        fragment = FRAGMENT in request.headers
        around = {} if fragment else self.admin_site.each_context(request)
        values = {
            **around,
            "title": capfirst(self.opts.verbose_name_plural),
            "opts": self.opts,
            "base": "admin/django_taskq/fragment.html" if fragment else "admin/django_taskq/live.html",
            "tabs": [] if fragment else self.tabs(request),
            "changelist_url": self.link(self.model),
            **context,
        }
        response = TemplateResponse(request, template, values)
        patch_vary_headers(response, [FRAGMENT])
        return response

    @staticmethod
    def away(look: Look) -> dict[str, Any]:
        """What every live page says when Redis cannot be asked."""
        return {
            "error": look.error,
            "away_since": moment_of(look.away_since) if look.error else "",
            "seen_at": moment_of(look.at) if look.at else "",
            "looked_at": look.at,
        }

    # --- acting -----------------------------------------------------------------------------------------------------

    @staticmethod
    def require(request: HttpRequest, *codenames: str) -> None:
        """PermissionDenied unless the user has all of these."""
        if not all(request.user.has_perm(f"django_taskq.{codename}") for codename in codenames):
            raise PermissionDenied

    def refused(self, request: HttpRequest, *codenames: str) -> HttpResponse | None:
        """What to answer to a request that must be a POST by somebody with these permissions, if it is not."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.require(request, "monitor", *codenames)
        return None

    def acted(self, request: HttpRequest, action: str, target: str, text: str, count: int = 1) -> None:
        """Tells the admin's log and whoever listens what was done."""
        write_entry(request, self.model, text, key=target, text=target)
        operator_action.send_robust(sender=action, user=request.user, target=target, count=count)
