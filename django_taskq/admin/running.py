"""Running tasks as rows: what, where, for how long, how far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_taskq.admin import display
from django_taskq.admin.figures import ago, share
from django_taskq.admin.look import Look
from django_taskq.broker.worker_states import RunningTask, WorkerState


def running_rows(look: Look, url_of: Callable[[str], str]) -> list[dict[str, Any]]:
    """Every running task, the one that runs for longest first. `url_of`: the page of the task with that id, or ''."""
    tasks = [(task, worker) for worker in look.workers for task in worker.running]
    return [running_row(look, *pair, url_of) for pair in sorted(tasks, key=lambda pair: pair[0].since)]


def running_row(look: Look, task: RunningTask, worker: WorkerState, url_of: Callable[[str], str]) -> dict[str, Any]:
    """One running task."""
    return {
        "url": url_of(task.id),
        "id": task.id,
        "short_id": display.short_id(task.id),
        "task": display.breakable(task.task),
        "name": task.task,
        "queue": task.queue,
        "attempt": task.attempt,
        "for": ago(look.at - task.since),
        "worker": worker.id,
        "lost": worker.dead or look.is_silent(worker),
        "asked": task.id in look.cancelling,
        "progress": _progress(task),
    }


def _progress(task: RunningTask) -> dict[str, Any] | None:
    """How far it says it is; `percent` None where it does not know the end."""
    progress = task.progress
    if progress is None:
        return None
    known = progress.share
    return {
        "percent": None if known is None else round(known * 100),
        "share": None if known is None else share(known),
        "current": f"{progress.current:g}",
        "text": progress.text,
    }
