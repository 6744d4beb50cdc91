from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_taskq.bulk import Writer
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import entries

Allowed = Callable[..., Client]


@pytest.fixture
def allowed(db: None) -> Allowed:
    """A client of a member of staff who has exactly these permissions of django_taskq."""

    def allow(*codenames: str) -> Client:
        user = User.objects.create_user(f"staff-{'-'.join(codenames)}", password="x", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="django_taskq", codename__in=codenames)
        )
        assert user.user_permissions.count() == len(codenames)
        client = Client()
        client.force_login(user)
        return client

    return allow


@pytest.fixture
def admin(admin_client: Client) -> Client:
    return admin_client


def record(*outcomes: Outcome) -> None:
    Writer().write(entries(*outcomes))


def only_result() -> TaskResult:
    return TaskResult.objects.get()


def only_dead() -> DeadTask:
    return DeadTask.objects.get()
