"""The JSON API: `path("taskq/", include("django_taskq.urls"))`. docs/api.md describes it."""

from __future__ import annotations

from django.urls import path, re_path

from django_taskq.api import views

app_name = "django_taskq"
urlpatterns = [
    path(views.DOCUMENT, views.document_view, name="openapi"),
    *(
        path(route.address, views.view_of(methods), name=route.name)
        for methods in views.by_path().values()
        for route in [next(iter(methods.values()))]
    ),
    re_path(r"^(?P<rest>[\s\S]*)$", views.unknown_view),
]
