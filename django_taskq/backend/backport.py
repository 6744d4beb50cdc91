"""For the backport `django_tasks`: Django 5.2 needs it, and some apps import it whatever the version."""

from __future__ import annotations

from django_tasks.backends.base import BaseTaskBackend

from django_taskq.backend.base import Backend
from django_taskq.backend.framework import BACKPORT, edition


class TaskqBackend(Backend, BaseTaskBackend):
    """A backend of `django_tasks` that sends to the workers of this package."""

    framework = edition(BACKPORT)
