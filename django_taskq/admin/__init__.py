"""The admin's pages. They are on Django's default site; `register(site)` puts all of them on one of your own."""

from __future__ import annotations

from django.contrib.admin import AdminSite

from django_taskq.admin.dead import DeadTaskAdmin
from django_taskq.admin.limits import LimitAdmin
from django_taskq.admin.outbox import OutboxEntryAdmin
from django_taskq.admin.overview import OverviewAdmin
from django_taskq.admin.periodic import PeriodicTaskAdmin
from django_taskq.admin.queues import QueueAdmin
from django_taskq.admin.results import TaskResultAdmin
from django_taskq.admin.task_actions import TaskAction, TaskActionMixin
from django_taskq.admin.task_types import TaskTypeAdmin
from django_taskq.admin.tokens import ApiTokenAdmin
from django_taskq.admin.workers import WorkerAdmin
from django_taskq.models import (
    ApiToken,
    DeadTask,
    Limit,
    OutboxEntry,
    Overview,
    PeriodicTask,
    Queue,
    TaskResult,
    TaskType,
    Worker,
)

__all__ = [
    "ApiTokenAdmin", "DeadTaskAdmin", "LimitAdmin", "OutboxEntryAdmin", "OverviewAdmin", "PeriodicTaskAdmin",
    "QueueAdmin", "TaskAction", "TaskActionMixin", "TaskResultAdmin", "TaskTypeAdmin", "WorkerAdmin", "register",
]  # fmt: skip

PAGES = {
    Overview: OverviewAdmin, Queue: QueueAdmin, Worker: WorkerAdmin, TaskType: TaskTypeAdmin,
    Limit: LimitAdmin,
    PeriodicTask: PeriodicTaskAdmin, DeadTask: DeadTaskAdmin, TaskResult: TaskResultAdmin,
    OutboxEntry: OutboxEntryAdmin, ApiToken: ApiTokenAdmin,
}  # fmt: skip


def register(site: AdminSite) -> None:
    """Every page on an AdminSite; those that it has already stay as they are."""
    for model, page in PAGES.items():
        if not site.is_registered(model):
            site.register(model, page)
