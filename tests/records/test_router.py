import pytest
from django.contrib.auth.models import User

from django_taskq.models import ApiToken, DeadTask, TaskResult
from django_taskq.router import TaskqRouter


@pytest.fixture
def router(settings: object) -> TaskqRouter:
    settings.TASKQ = {**settings.TASKQ, "DATABASE": "records"}  # type: ignore[attr-defined]
    return TaskqRouter()


def test_the_records_are_on_the_database_that_taskq_names(router: TaskqRouter) -> None:
    for model in (TaskResult, DeadTask):
        assert router.db_for_read(model) == router.db_for_write(model) == "records"


def test_other_apps_are_none_of_its_business(router: TaskqRouter) -> None:
    assert router.db_for_read(User) is router.db_for_write(User) is None
    assert router.allow_migrate("records", "auth") is None
    assert router.allow_migrate("default", "auth") is None


def test_the_tables_are_made_there_only(router: TaskqRouter) -> None:
    assert router.allow_migrate("records", "django_taskq") is True
    assert router.allow_migrate("default", "django_taskq") is False


def test_api_tokens_are_where_users_are(router: TaskqRouter) -> None:
    assert router.db_for_read(ApiToken) == router.db_for_write(ApiToken) == "default"
    assert router.allow_migrate("default", "django_taskq", model_name="apitoken") is True
    assert router.allow_migrate("records", "django_taskq", model_name="apitoken") is False
