"""The task that the load test sends. Workers import this module when they start, so that every one of them knows it.

Django's autodiscovery does not: it looks for `tasks` in apps, and this package is none.
"""

from __future__ import annotations

from django_taskq.conf import get_settings
from django_taskq.decorator import task


@task(name="django_taskq.bench", queue_name=next(iter(get_settings().queues)), max_retries=0, outbox=False)
def nothing(payload: str = "") -> None:
    """Does nothing: what is measured is the queue."""
