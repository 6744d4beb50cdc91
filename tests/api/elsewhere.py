from django.urls import include, path

urlpatterns = [path("v1/queue-api/", include("django_taskq.urls"))]
