"""The interface `django.tasks` in its two editions: Django's own (6.0 and later), and the backport `django_tasks`.

They have the same classes under the same names, but each has its own: a result, an error or a signal must be that of
the edition which its caller imports.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BUILT_IN = "django.tasks"
BACKPORT = "django_tasks"


@dataclasses.dataclass(frozen=True, eq=False)
class Framework:
    """What this package uses of one edition."""

    name: str
    task_class: type[Any]
    result_class: type[Any]
    error_class: type[Any]
    context_class: type[Any]
    status: Any  # TaskResultStatus
    invalid_task: type[Exception]
    missing_result: type[Exception]
    backends: Any  # the handler: alias -> backend
    task_enqueued: Any
    task_started: Any
    task_finished: Any

    @classmethod
    def load(cls, name: str) -> Framework:
        """ImportError where this edition is not installed."""
        top, base = import_module(name), import_module(f"{name}.base")
        errors, signals = import_module(f"{name}.exceptions"), import_module(f"{name}.signals")
        return cls(
            name, base.Task, base.TaskResult, base.TaskError, base.TaskContext, base.TaskResultStatus,
            getattr(errors, "InvalidTask", None) or errors.InvalidTaskError, errors.TaskResultDoesNotExist,
            top.task_backends, signals.task_enqueued, signals.task_started, signals.task_finished,
        )  # fmt: skip

    def make_task(self, task_class: type[Any], **values: Any) -> Any:
        """A Task that is not validated: one that was sent may name a queue or an option that is no more."""
        made = object.__new__(task_class)
        for field in dataclasses.fields(task_class):
            if field.name in values:
                value = values[field.name]
            elif field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            else:
                value = None if field.default is dataclasses.MISSING else field.default
            object.__setattr__(made, field.name, value)
        return made

    def make_result(self, **values: Any) -> Any:
        """A TaskResult; `return_value` may be among its values."""
        return_value = values.pop("return_value", None)
        result = self.result_class(**values)
        object.__setattr__(result, "_return_value", return_value)
        return result


loaded: dict[str, Framework] = {}  # editions that a backend of ours was imported for


def edition(name: str, load: Callable[[str], Framework] = Framework.load) -> Framework:
    """The edition of that name, loaded once."""
    if name not in loaded:
        loaded[name] = load(name)
    return loaded[name]
