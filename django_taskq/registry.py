"""Every task this process knows, by the name that messages carry. Only registered tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_taskq.exceptions import InvalidTask

if TYPE_CHECKING:
    from django_taskq.task import Task

_tasks: dict[str, Task[..., Any]] = {}
_finder: Callable[[str], Task[..., Any] | None] | None = None


def register(task: Task[..., Any]) -> None:
    """Makes a task known; InvalidTask if another function has its name. A module loaded again replaces its own."""
    known = _tasks.get(task.name)
    if known is not None and known.module_path != task.module_path:
        raise InvalidTask(
            f"Two tasks are named {task.name!r}: {known.module_path} and {task.module_path}. Give one of them another "
            "name with @task(name=...)."
        )
    if known is not None and known.interface != task.interface:
        raise InvalidTask(f"{task.name} is declared with the decorators of {known.interface} and of {task.interface}.")
    _tasks[task.name] = task


def lookup(name: str) -> Task[..., Any] | None:
    """The task of that name, or None."""
    return _tasks.get(name)


def find(name: str) -> Task[..., Any] | None:
    """As `lookup`, for workers: what a `django.tasks` backend is to run may be in a module not imported yet."""
    task = _tasks.get(name)
    return task if task is not None or _finder is None else _finder(name)


def set_finder(finder: Callable[[str], Task[..., Any] | None]) -> None:
    """`finder` is asked for what is not registered. (The backend is a layer above this one, so it comes to us.)"""
    global _finder
    _finder = finder


def all_tasks() -> list[Task[..., Any]]:
    """Every registered task, sorted by name."""
    return [_tasks[name] for name in sorted(_tasks)]
