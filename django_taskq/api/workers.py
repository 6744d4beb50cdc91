"""Workers: what each is and runs; quiet and stop."""

from __future__ import annotations

import uuid
from typing import Literal

from django_taskq.api.auth import Actor
from django_taskq.api.convert import utc
from django_taskq.api.errors import not_found
from django_taskq.api.log import Target, log
from django_taskq.api.paging import by_name
from django_taskq.api.schemas import Controlled, Page, Progress, Running, Worker, Workers
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, RunningTask, WorkerState
from django_taskq.models import Worker as WorkerModel

UNKNOWN = "No worker of this id is alive."


def index(query: Page) -> Workers:
    """The registered workers, with what each is running."""
    states, following = by_name(Inspector(get_broker()).workers(), _id, query.limit, query.cursor)
    return Workers([_described(state) for state in states], following)


def show(worker: str) -> Worker:
    """One worker."""
    for state in Inspector(get_broker()).workers():
        if state.id == worker:
            return _described(state)
    raise not_found(UNKNOWN, "unknown_worker")


def quiet(actor: Actor, worker: str) -> Controlled:
    """It finishes what it runs and claims nothing more."""
    return _control(actor, worker, "quiet", "Quieted.")


def stop(actor: Actor, worker: str) -> Controlled:
    """It finishes what it runs, as at SIGTERM, and ends; nothing takes its place."""
    return _control(actor, worker, "stop", "Stopped.")


def _control(actor: Actor, worker: str, what: Literal["quiet", "stop"], message: str) -> Controlled:
    if not Inspector(get_broker()).control(worker, what):
        raise not_found(UNKNOWN, "unknown_worker")
    log(actor, what, Target(WorkerModel, worker, f"worker {worker}"), message)
    return Controlled(worker, what)


def _id(state: WorkerState) -> str:
    return state.id


def _described(state: WorkerState) -> Worker:
    return Worker(
        id=state.id, state=state.state, dead=state.dead, host=state.host, pid=state.pid, supervisor=state.supervisor,
        version=state.version, python=state.python, django=state.django, queues=state.queues, threads=state.threads,
        async_concurrency=state.async_concurrency, started_at=utc(state.started), beat_at=utc(state.beat),
        rss=state.rss, settled=state.settled, running=[_running(task) for task in state.running],
    )  # fmt: skip


def _running(task: RunningTask) -> Running:
    progress = task.progress and Progress(task.progress.current, task.progress.total, task.progress.text)
    return Running(uuid.UUID(task.id), task.task, task.queue, task.attempt, utc(task.since), progress or None)
