"""Task types: which are paused; pause and resume one."""

from __future__ import annotations

from django_taskq.api.auth import Actor
from django_taskq.api.errors import not_found
from django_taskq.api.log import Target, log
from django_taskq.api.schemas import PausedTask, PausedTasks
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.models import TaskType
from django_taskq.registry import lookup


def index() -> PausedTasks:
    """The tasks that are paused."""
    return PausedTasks(Inspector(get_broker()).paused_tasks())


def pause(actor: Actor, task: str) -> PausedTask:
    """No worker is given calls of it any more, whatever their queue."""
    if lookup(task) is None:
        raise not_found(f"No task {task!r} is registered.", "unknown_task")
    return _set(actor, task, paused=True)


def resume(actor: Actor, task: str) -> PausedTask:
    """Undoes a pause."""
    if lookup(task) is None and task not in Inspector(get_broker()).paused_tasks():
        raise not_found(f"No task {task!r} is registered or paused.", "unknown_task")
    return _set(actor, task, paused=False)


def _set(actor: Actor, task: str, *, paused: bool) -> PausedTask:
    inspector = Inspector(get_broker())
    changed = (inspector.pause_task if paused else inspector.resume_task)(task)
    action, message = ("pause", "Paused.") if paused else ("resume", "Resumed.")
    log(actor, action, Target(TaskType, task, f"task {task}"), message, count=changed)
    return PausedTask(task, paused, changed)
