"""Settings of the site whose pages are timed: the admin, fifty queues, everything else as in benchmarks.settings."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import INSTALLED_APPS, TASKQ

QUEUES = 50

DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.site"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.messages", "django.contrib.sessions", "django.contrib.staticfiles",
    *INSTALLED_APPS,
]  # fmt: skip
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
TASKQ = {**TASKQ, "QUEUES": {"default": {}, **{f"queue-{number:02}": {} for number in range(1, QUEUES)}}}


def __getattr__(name: str) -> list[URLPattern | URLResolver]:
    """The URLs are made when they are asked for: settings are read before there are apps."""
    if name == "urlpatterns":
        return [path("admin/", admin.site.urls)]
    raise AttributeError(name)
