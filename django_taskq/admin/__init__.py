"""The records in Django's admin. On an AdminSite of your own: `site.register(TaskResult, TaskResultAdmin)`."""

from django_taskq.admin.dead import DeadTaskAdmin
from django_taskq.admin.results import TaskResultAdmin

__all__ = ["DeadTaskAdmin", "TaskResultAdmin"]
