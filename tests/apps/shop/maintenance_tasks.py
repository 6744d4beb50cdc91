"""A backfill for django-maintenance-tasks."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from maintenance_tasks import MaintenanceTask


class NameUsers(MaintenanceTask):
    description = "Gives every user a last name."
    batch_size = 2

    def collection(self) -> Any:
        return get_user_model().objects.order_by("pk")

    def process(self, user: Any) -> None:
        user.last_name = f"Named {user.pk}"
        user.save(update_fields=["last_name"])
