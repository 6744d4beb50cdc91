"""Finds tasks whose module nobody has imported yet, by the name in their message.

A message may make a worker import a module of the project or of an installed app, nothing else, and run what is then a
declared task, never anything else that has this name.
"""

from __future__ import annotations

import logging
import sys
import time
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings

from django_taskq import registry
from django_taskq.backend.adapted import adapt
from django_taskq.backend.framework import loaded
from django_taskq.exceptions import InvalidTask
from django_taskq.task import Task

logger = logging.getLogger("django_taskq.worker")

AGAIN_AFTER = 30.0  # seconds until a name that was not found is looked for again
REMEMBERED = 1000

_missing: dict[str, float] = {}  # name -> until when (monotonic) it is not looked for


def find(name: str) -> Task[..., Any] | None:
    """The task of that name, after an import if need be; None if there is none."""
    if time.monotonic() < _missing.get(name, 0.0):
        return None
    task = _imported(name)
    if task is None:
        if len(_missing) >= REMEMBERED:
            _missing.clear()
        _missing[name] = time.monotonic() + AGAIN_AFTER
    return task


def _imported(name: str) -> Task[..., Any] | None:
    path, _, attribute = name.rpartition(".")
    if not path or not _is_ours(path):
        return None
    try:
        module = import_module(path)
    except BaseException as error:  # noqa: BLE001 - a module may do anything as it is imported
        logger.warning("task %s: its module cannot be imported: %r", name, error)
        return None
    return registry.lookup(name) or _declared_elsewhere(name, getattr(module, attribute, None))


def _is_ours(path: str) -> bool:
    """Whether a module is part of the project or of an installed app."""
    if path in sys.modules:
        return True
    known = [config.name for config in apps.get_app_configs()]
    known += [getattr(settings, "SETTINGS_MODULE", None) or "", getattr(settings, "ROOT_URLCONF", None) or ""]
    return path.partition(".")[0] in {each.partition(".")[0] for each in known}


def _declared_elsewhere(name: str, found: Any) -> Task[..., Any] | None:
    """A Task that was declared with another backend and sent with `using(backend=...)`."""
    for framework in loaded.values():
        if isinstance(found, framework.task_class) and found.module_path == name:
            try:
                return adapt(framework, found.func, passes_context=found.takes_context, alias=found.backend, options={})
            except InvalidTask as error:
                logger.warning("task %s: %s", name, error)
    return None
