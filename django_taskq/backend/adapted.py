"""A function of `@django.tasks.task` as a task of this package, which workers find in the registry like any other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from django.core.signals import setting_changed

from django_taskq import options as task_options
from django_taskq.backend import attempt
from django_taskq.backend.codec import PlainCodec
from django_taskq.backend.framework import Framework
from django_taskq.backend.options import ALLOWED, options_of
from django_taskq.registry import all_tasks, lookup, register
from django_taskq.task import Task


class AdaptedTask(Task[..., Any]):
    """What the worker calls is `func`: the function within all that `django.tasks` promises of an attempt."""

    interface = "django.tasks"

    def __init__(
        self, framework: Framework, function: Callable[..., Any], *, passes_context: bool, alias: str,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """`alias` and `options`: the backend that the task was declared with, and its OPTIONS. Raises InvalidTask."""
        self.framework, self.function, self.passes_context, self.alias = framework, function, passes_context, alias
        self.task_class = framework.task_class  # or a subclass of an app
        self._given: Mapping[str, Any] | None = options
        super().__init__(function, takes_context=passes_context)
        self.codec = PlainCodec(self.name, function, takes_context=passes_context)
        self.bind = self.codec.bind
        self.takes_context = True  # `func` does
        run = functools.partial(attempt.arun if self.is_async else attempt.run, self)
        self.func = functools.update_wrapper(run, function)

    def verify(self) -> None:
        """Raises InvalidTask for options that make no sense."""
        _ = self.options

    def _resolve(self) -> None:
        options = self._given if self._given is not None else self._options_of_backend()
        where = f"Task {self.name}"
        self._declared = task_options.parse(where, options_of(self.name, self.function, options), allowed=ALLOWED)
        super()._resolve()

    def _options_of_backend(self) -> Mapping[str, Any]:
        backends = self.framework.backends
        return backends[self.alias].options if self.alias in backends.settings else {}

    def forget_backend(self) -> None:
        """Makes the next use read TASKS again."""
        self._given = None
        self.forget_settings()


def adapt(
    framework: Framework, function: Callable[..., Any], *, passes_context: bool, alias: str, options: Mapping[str, Any]
) -> AdaptedTask:
    """The registered task of a function; InvalidTask where its name belongs to another."""
    known = lookup(f"{function.__module__}.{function.__qualname__}")
    if (
        isinstance(known, AdaptedTask)
        and known.function is function
        and known.passes_context is passes_context
        and known.framework is framework
    ):
        return known
    made = AdaptedTask(framework, function, passes_context=passes_context, alias=alias, options=options)
    register(made)
    return made


def _forget_backends(setting: str, **_: object) -> None:
    if setting == "TASKS":
        for known in all_tasks():
            if isinstance(known, AdaptedTask):
                known.forget_backend()


setting_changed.connect(_forget_backends, dispatch_uid="django_taskq.backend")
