"""Both editions of `django.tasks` in one project: one path for both, or one for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import django_tasks
import pytest
from django.core.exceptions import ImproperlyConfigured
from django_tasks import base as backport
from django_tasks.exceptions import TaskResultDoesNotExist
from django_tasks.signals import task_finished

import django_taskq.backend
from tests.backend.api import base
from tests.backend.conftest import ended
from tests.worker.inside import Crew

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

PATH = "django_taskq.backend.backport.TaskqBackend"


@pytest.fixture
def tasks(settings: SettingsWrapper) -> Iterator[ModuleType]:
    settings.TASKS = {**settings.TASKS, "backport": {"BACKEND": PATH}}
    yield import_module("tests.backend.backport_tasks")
    sys.modules.pop("tests.backend.backport_tasks")


def test_the_backports_decorator_works_with_the_path_that_serves_both(crew: Crew, tasks: ModuleType) -> None:
    assert isinstance(tasks.double, base.Task)
    assert ended(tasks.double.enqueue(4)).return_value == 8


def test_with_its_own_path_everything_is_the_backports(crew: Crew, tasks: ModuleType) -> None:
    heard: list[object] = []

    def listen(task_result: object, **_: object) -> None:
        heard.append(task_result)

    task_finished.connect(listen)
    sent = tasks.attempt.enqueue()
    assert isinstance(sent, backport.TaskResult)
    assert ended(sent).return_value == 1
    assert [type(result) for result in heard] == [backport.TaskResult]
    with pytest.raises(TaskResultDoesNotExist):
        django_tasks.task_backends["backport"].get_result("nobody knows it")


def test_without_either_edition_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_taskq.backend.django, "VERSION", (5, 2, 0, "final", 0))
    monkeypatch.setitem(sys.modules, "django_taskq.backend.backport", None)
    with pytest.raises(ImproperlyConfigured, match="pip install django-tasks"):
        _ = django_taskq.backend.TaskqBackend
