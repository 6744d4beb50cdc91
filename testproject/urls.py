from django.conf import settings
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("taskq/", include("django_taskq.urls")),
    path("", include("testproject.shop.urls")),
]
if settings.METERED:
    urlpatterns.append(path("", include("django_prometheus.urls")))  # /metrics
