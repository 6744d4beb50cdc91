from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_taskq.broker import Broker, get_broker
from django_taskq.bulk import Writer
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask, TaskResult
from tests.records.outcomes import entries
from tests.web.scene import Scene

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

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


@pytest.fixture
def scene(broker: Broker, settings: SettingsWrapper) -> Iterator[Scene]:
    """A queue with a name or two, in a state that the test chooses."""
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    scene = Scene(get_broker())
    yield scene
    scene.close()


def record(*outcomes: Outcome) -> None:
    Writer().write(entries(*outcomes))


def only_result() -> TaskResult:
    return TaskResult.objects.get()


def only_dead() -> DeadTask:
    return DeadTask.objects.get()
