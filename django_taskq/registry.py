"""Every task this process knows, by the name that messages carry. Only registered tasks run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_taskq.exceptions import InvalidTask

if TYPE_CHECKING:
    from django_taskq.task import Task

_tasks: dict[str, Task[..., Any]] = {}


def register(task: Task[..., Any]) -> None:
    """Makes a task known; InvalidTask if another function has its name. A module loaded again replaces its own."""
    known = _tasks.get(task.name)
    if known is not None and known.module_path != task.module_path:
        raise InvalidTask(
            f"Two tasks are named {task.name!r}: {known.module_path} and {task.module_path}. Give one of them another "
            "name with @task(name=...)."
        )
    _tasks[task.name] = task


def lookup(name: str) -> Task[..., Any] | None:
    """The task of that name, or None."""
    return _tasks.get(name)


def all_tasks() -> list[Task[..., Any]]:
    """Every registered task, sorted by name."""
    return [_tasks[name] for name in sorted(_tasks)]
