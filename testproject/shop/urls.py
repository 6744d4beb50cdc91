from __future__ import annotations

from django.urls import path

from testproject.shop import views

urlpatterns = [
    path("", views.send, name="send"),
    path("sent/", views.sent, name="sent"),
]
