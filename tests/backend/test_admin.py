"""Tasks of `django.tasks` in the admin, beside the others; and their limits."""

from __future__ import annotations

import pytest
from django.test import Client

from django_taskq.admin.python_call import python_call
from django_taskq.broker import Broker
from django_taskq.models import DeadTask, TaskResult
from tests.backend import tasks
from tests.backend.conftest import ended, recorded
from tests.worker.inside import Crew


@pytest.mark.django_db(transaction=True)
def test_its_pages_show_it_and_its_arguments_can_be_edited(crew: Crew, broker: Broker, admin_client: Client) -> None:
    sent, failed = ended(tasks.echo.enqueue(1, two=2)), ended(tasks.fail.enqueue("no luck"))
    recorded(broker)
    page = admin_client.get(f"/admin/django_taskq/taskresult/{sent.id}/change/")
    assert page.status_code == 200
    assert "echo.enqueue(1, two=2)" in page.content.decode()
    dead = DeadTask.objects.get()
    edit = f"/admin/django_taskq/deadtask/{dead.pk}/edit/"
    assert "tests.backend.tasks.fail(message" in admin_client.get(edit).content.decode()
    refused = admin_client.post(edit, {"args": "[1, 2, 3]", "kwargs": "{}"})
    assert refused.status_code == 422
    admin_client.post(edit, {"args": '["luck"]', "kwargs": "{}"})
    ended(failed)
    assert tasks.fail.get_result(failed.id).args == ["luck"]
    assert TaskResult.objects.count() == 2


def test_one_at_a_time_is_one_at_a_time(crew: Crew) -> None:
    sent = [tasks.alone.enqueue(number) for number in range(4)]
    assert [ended(result).return_value for result in sent] == [1, 1, 1, 1]


def test_the_call_as_python_is_one_of_django_tasks() -> None:
    assert python_call(tasks.add.module_path, "[1]", "{}").endswith("add.enqueue(1)")
    assert python_call(tasks.add.module_path, "[1, 2, 3]", "{}").endswith("add.enqueue(1, 2, 3)")
    assert python_call(tasks.own.name, "[1]", "{}").endswith("own.delay(1)")
