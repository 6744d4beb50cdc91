"""The backend of `django.tasks`, for both editions: validate, enqueue, look up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from django_taskq import producer, registry
from django_taskq.backend import ends, finder, lookup, results  # noqa: F401 - `ends` listens
from django_taskq.backend.adapted import AdaptedTask, adapt
from django_taskq.backend.framework import Framework
from django_taskq.backend.options import ALLOWED, options_of, problems_of
from django_taskq.conf import get_settings
from django_taskq.exceptions import InvalidTask
from django_taskq.options import TaskOptions, parse, resolve
from django_taskq.route import Route, route_for

_CARRIED = ("max_retries", "timeout", "hard_timeout", "record")

registry.set_finder(finder.find)


class Backend:
    """What TaskqBackend is, whichever edition's BaseTaskBackend it inherits besides.

    Cheap to make: each thread and each async context has one of its own. What costs something is kept elsewhere.
    """

    framework: ClassVar[Framework]
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    alias: str
    options: dict[str, Any]
    task_class: type[Any]

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, {"QUEUES": (), **params})  # type: ignore[call-arg]

    @property
    def queues(self) -> set[str]:
        """Those of TASKQ, as it is now, unless QUEUES names some."""
        try:
            return self._queues or set(get_settings().queues)
        except ImproperlyConfigured:  # for its own check to report
            return set()

    @queues.setter
    def queues(self, given: set[str]) -> None:
        self._queues = given

    def validate_task(self, task: Any) -> None:
        """Also makes the task known to this process."""
        if task.run_after is not None and not isinstance(task.run_after, dt.datetime):
            raise self.framework.invalid_task("run_after must be a datetime.")
        super().validate_task(task)  # type: ignore[misc]
        if task.queue_name not in (declared := get_settings().queues):
            raise self.framework.invalid_task(
                f"Queue '{task.queue_name}' is not valid for backend. "
                f"TASKQ['QUEUES'] has {', '.join(map(repr, declared))}."
            )
        self._adapted(task)

    def _adapted(self, task: Any) -> AdaptedTask:
        try:
            adapted = adapt(
                self.framework, task.func, passes_context=task.takes_context, alias=self.alias, options=self.options
            )
        except InvalidTask as error:
            raise self.framework.invalid_task(str(error)) from error
        adapted.task_class = type(task)
        return adapted

    # --- sending ------------------------------------------------------------------------------------------------------

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Sends the task. Raises TypeError or ValueError for arguments that are not JSON or do not fit the function,
        and the errors of `delay()`: PayloadTooLarge, QueueFull, BrokerUnavailable.
        """
        self.validate_task(task)
        adapted = self._adapted(task)
        enqueued = int(lookup.redis_time(ask=not adapted.outbox) * 1000)
        # Before it is sent: making it may raise for arguments, too.
        result = self.framework.make_result(
            task=task, id="", status=self.framework.status.READY, enqueued_at=results.moment(enqueued / 1000),
            started_at=None, last_attempted_at=None, finished_at=None, args=args, kwargs=kwargs, backend=self.alias,
            errors=[], worker_ids=[],
        )  # fmt: skip
        handle = producer.send(self._route(adapted, task, enqueued), tuple(args), dict(kwargs))
        object.__setattr__(result, "id", handle.id)
        # The task is sent: a receiver that fails is logged by Django and must not make the caller believe otherwise.
        self.framework.task_enqueued.send_robust(type(self), task_result=result)
        return result

    def _route(self, adapted: AdaptedTask, task: Any, enqueued: int) -> Route:
        where = f"{adapted.name}.using()"
        overrides = {
            **self._overrides(adapted),
            **parse(where, {"run_after": task.run_after}, allowed=frozenset({"run_after"})),
            "queue_name": task.queue_name,
            "priority": int(task.priority),
        }
        route = route_for(adapted, adapted.options, overrides)
        origin = results.Origin(self.alias, task.run_after, enqueued)
        return replace(route, more={**route.more, "origin": origin.encoded()})

    def _overrides(self, adapted: AdaptedTask) -> dict[str, Any]:
        """Where OPTIONS of this backend differ from those of the one that the task was declared with."""
        if adapted.alias == self.alias:
            return {}
        given = options_of(adapted.name, adapted.function, self.options)
        mine: TaskOptions = resolve(adapted.name, parse(f"Task {adapted.name}", given, allowed=ALLOWED), get_settings())
        return {name: value for name in _CARRIED if (value := getattr(mine, name)) != getattr(adapted, name)}

    # --- looking up ---------------------------------------------------------------------------------------------------

    def get_result(self, result_id: str) -> Any:
        """What became of a task: from Redis, from the records once that has forgotten it, or from the outbox."""
        known = lookup.known(result_id)
        if known is None or known.origin.alias != self.alias:
            raise self.framework.missing_result(result_id)
        task = registry.find(known.task)
        if not isinstance(task, AdaptedTask):
            raise self.framework.missing_result(f"{result_id}: there is no task {known.task} any more")
        return results.result_of(self.framework, task, known, self.alias)

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What is wrong with this entry of TASKS."""
        try:
            queues = get_settings().queues
        except ImproperlyConfigured:
            return []  # E001 says so
        where = f"TASKS[{self.alias!r}]"
        found = [f"{where}['OPTIONS'] {problem}" for problem in problems_of(self.options)]
        if unknown := sorted(set(self.queues) - set(queues)):
            found.append(
                f"{where}['QUEUES'] names {', '.join(unknown)}: not in TASKQ['QUEUES'], so no worker serves it"
            )
        tasks = self.options.get("tasks", {})
        if isinstance(tasks, Mapping):
            found += [
                f"{where}['OPTIONS']['tasks'] names {name}, and there is no such task"
                for name in tasks
                if not isinstance(registry.find(str(name)), AdaptedTask)
            ]
        return [Error(f"{problem}.", hint="See docs/django-tasks.md.", id="django_taskq.E008") for problem in found]
