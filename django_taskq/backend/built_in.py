"""For `django.tasks`, which is part of Django 6.0 and later."""

from __future__ import annotations

from django.tasks.backends.base import BaseTaskBackend

from django_taskq.backend.base import Backend
from django_taskq.backend.framework import BUILT_IN, edition


class TaskqBackend(Backend, BaseTaskBackend):
    """A backend of `django.tasks` that sends to the workers of this package."""

    framework = edition(BUILT_IN)
