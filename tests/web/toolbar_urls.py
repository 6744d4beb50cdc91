"""Pages that send tasks: see toolbar_site.py."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.encryption.tasks import charge
from tests.sampleapp.tasks import add
from tests.testing import tasks


def sends(request: HttpRequest) -> HttpResponse:
    add.delay(1, 2)
    add.delay_many([((n, n), {}) for n in range(3)])
    tasks.returns.delay("<script>")
    with transaction.atomic():
        tasks.login.delay_on_commit({"user": "ada", "password": "hunter2"})
    return HttpResponse("<html><body>sent</body></html>")


def sends_sealed(request: HttpRequest) -> HttpResponse:
    charge.delay("4111")
    return HttpResponse("<html><body>sent</body></html>")


def sends_nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<html><body>nothing</body></html>")


urlpatterns = [
    path("sends/", sends),
    path("sealed/", sends_sealed),
    path("nothing/", sends_nothing),
    path("admin/", admin.site.urls),
    path("__debug__/", include("debug_toolbar.urls")),
]
