"""The backend for `django.tasks`: `django_taskq.backend.TaskqBackend` in the setting TASKS; docs/django-tasks.md."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_taskq.backend.framework import BACKPORT, BUILT_IN, loaded
from django_taskq.backend.options import taskq_options

__all__ = ["TaskqBackend", "taskq_options"]


def __getattr__(name: str) -> Any:
    """`TaskqBackend` is that of the edition which this version of Django has, or else of the backport."""
    if name != "TaskqBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if django.VERSION >= (6, 0):
        from django_taskq.backend.built_in import TaskqBackend

        return TaskqBackend
    try:
        return import_module("django_taskq.backend.backport").TaskqBackend
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            f"Django {django.get_version()} has no django.tasks. Install its backport: pip install django-tasks"
        ) from error


def start() -> None:
    """As Django starts: importing registers the checks of TASKS, and our finder of tasks with the workers."""
    if django.VERSION >= (6, 0):
        import_module(BUILT_IN)
    for entry in getattr(settings, "TASKS", {}).values():
        try:
            import_string(entry["BACKEND"])
        except (ImportError, KeyError, TypeError, AttributeError):
            continue  # the checks of TASKS say so
    if BACKPORT in loaded:
        import_module(f"{BACKPORT}.checks")
