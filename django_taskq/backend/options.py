"""Options that `django.tasks` has no words for: retries, time limits and the like.

From the strongest to the weakest: OPTIONS["tasks"] of the backend, `@taskq_options` on the function,
OPTIONS["defaults"], TASKQ["TASK_DEFAULTS"].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, Unpack

from django.utils.module_loading import import_string

from django_taskq.exceptions import InvalidTask
from django_taskq.options import OPTIONS, parse
from django_taskq.typed_options import Options

F = TypeVar("F", bound=Callable[..., Any])

# A Task of django.tasks says the first three itself, and each of its calls is a task with a result of its own. The
# arguments of the JSON API are converted by hints, which django.tasks does not follow.
_SAID_ELSEWHERE = {"queue_name", "priority", "run_after"}
_ELSEWHERE = _SAID_ELSEWHERE | {"idempotency_key", "idempotency_ttl", "batch", "batch_timeout", "api"}
ALLOWED = OPTIONS - _ELSEWHERE
_ATTRIBUTE = "__taskq_options__"


def taskq_options(**options: Unpack[Options]) -> Callable[[F], F]:
    """Options of @django_taskq.task for a function that `@django.tasks.task` decorates; put it below that.

    Other backends do not look at it. Raises InvalidTask for options that are unknown or make no sense.
    """
    given = dict(options)
    parse("taskq_options()", given, allowed=ALLOWED)

    def mark(function: F) -> F:
        function.__dict__[_ATTRIBUTE] = given
        return function

    return mark


def options_of(name: str, function: Callable[..., Any], backend: Mapping[str, Any]) -> dict[str, Any]:
    """The options that hold for one task, not parsed yet. `backend`: OPTIONS of its backend."""
    return {
        "record": "all",  # a result must be there for as long as RETENTION says
        **_classes(backend.get("defaults", {})),
        **getattr(function, _ATTRIBUTE, {}),
        **_classes(backend.get("tasks", {}).get(name, {})),
    }


def problems_of(options: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the OPTIONS of a backend."""
    for key in options:
        if key not in ("defaults", "tasks"):
            yield f"has no key {key!r}: use 'defaults' and 'tasks'"
    tasks = options.get("tasks", {})
    if not isinstance(tasks, Mapping):
        yield f"['tasks'] must be a dict of names and their options, not {tasks!r:.80}"
        tasks = {}
    for where, given in [
        ("['defaults']", options.get("defaults", {})),
        *((f"['tasks'][{n!r}]", tasks[n]) for n in tasks),
    ]:
        if not isinstance(given, Mapping):
            yield f"{where} must be a dict of options, not {given!r:.80}"
            continue
        try:
            parse("options", _classes(given), allowed=ALLOWED)
        except InvalidTask as error:
            yield f"{where}: {error}"


def _classes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings name errors by their dotted paths."""
    return {name: _class(value) if name in ("retry_on", "discard_on") else value for name, value in given.items()}


def _class(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return import_string(value if "." in value else f"builtins.{value}")
        except ImportError as error:
            raise InvalidTask(f"{value!r} is no exception that can be imported: {error}") from error
    return [_class(each) for each in value] if isinstance(value, list | tuple) else value
