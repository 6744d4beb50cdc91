"""The edition of `django.tasks` that these tests are about: Django's own where it has one, otherwise the backport."""

from __future__ import annotations

from importlib import import_module

import django

NAME = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"

api = import_module(NAME)
base = import_module(f"{NAME}.base")
signals = import_module(f"{NAME}.signals")
exceptions = import_module(f"{NAME}.exceptions")
InvalidTask = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
Status = base.TaskResultStatus
task = base.task
