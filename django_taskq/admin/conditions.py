"""When a queue or its tasks need attention, and how much."""

from __future__ import annotations

from django.utils.translation import gettext as _

from django_taskq.admin.look import Look
from django_taskq.broker.inspector import QueueState
from django_taskq.broker.statistics import Activity
from django_taskq.conf import max_length_of

BAD, WARN, OK = "bad", "warn", "ok"
BEHIND = 60.0  # seconds a task may wait before its queue is said to be behind
FAILING, FEW = 0.1, 10  # share of failures worth a word, once so many tasks have ended


def behind(look: Look, queue: QueueState) -> bool:
    """Whether a queue that is not paused has let a task wait for too long."""
    return not queue.paused and queue.oldest is not None and look.at - queue.oldest > BEHIND


def full(queue: QueueState) -> bool:
    """Whether a queue has reached its maximum length."""
    most = max_length_of(queue.name)
    return most is not None and queue.ready + queue.scheduled + queue.blocked >= most


def unserved(look: Look, queue: QueueState) -> bool:
    """Whether tasks are ready in a queue that should have a worker, and has none."""
    wanted = queue.ready and not queue.paused and queue.name in look.declared
    return bool(wanted) and not look.serving(queue.name)


def failing(activity: Activity) -> bool:
    """Whether so many of its tasks failed that somebody should look."""
    ratio, decided = activity.failure_ratio, activity.succeeded + activity.failed
    return ratio is not None and ratio >= FAILING and decided >= FEW


def state_of(look: Look, queue: QueueState) -> tuple[str, str]:
    """One word for a queue, with its level: BAD, WARN, OK, or '' where nothing happens."""
    if queue.paused:
        return WARN, _("paused")
    if queue.name not in look.declared:
        return WARN, _("not declared")
    if unserved(look, queue):
        return BAD, _("no worker")
    if behind(look, queue):
        return BAD, _("behind")
    if full(queue):
        return WARN, _("full")
    return (OK, _("working")) if queue.running or queue.ready else ("", _("idle"))
