"""The live pages of the admin.

The admin lists models, so each page has one. They are proxies and not unmanaged models, because `dumpdata` would look
for the table of the latter.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from django_taskq.models.ended import TaskResult


class PageMeta:
    """No table, and no permissions but the records' own."""

    proxy = True
    default_permissions = ()


class Overview(TaskResult):
    class Meta(PageMeta):
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


class Queue(TaskResult):
    class Meta(PageMeta):
        verbose_name = _("queue")
        verbose_name_plural = _("queues")


class TaskType(TaskResult):
    class Meta(PageMeta):
        verbose_name = _("task type")
        verbose_name_plural = _("task types")


class Limit(TaskResult):
    class Meta(PageMeta):
        verbose_name = _("limit")
        verbose_name_plural = _("limits")


class Worker(TaskResult):
    class Meta(PageMeta):
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
