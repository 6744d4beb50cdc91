"""The task that docs/protocol.md sends."""

from __future__ import annotations

from datetime import date

from django_taskq import task


@task(name="shop.tasks.send_reminder", queue_name="mail")
def send_reminder(address: str, due: date) -> str:
    return f"{address} {due:%d %B}"
