"""The middleware chain around tasks, and headers from the producer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from django_taskq import BreakerOpen, Discard, Retry
from django_taskq.broker import Broker
from django_taskq.context import TaskContext
from django_taskq.core.ids import id_from_str, new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import TaskCancelled, TaskTimeout
from django_taskq.middleware import call_chain, load_middleware
from django_taskq.middleware.fate import fate_of
from tests.tasks import sample
from tests.tasks.middleware import log

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker


def middleware(*names: str) -> override_settings:
    return override_settings(TASKQ={"MIDDLEWARE": [f"tests.tasks.middleware.{name}" for name in names]})


def innermost(context: TaskContext, args: Any, kwargs: Any) -> Any:
    log.append("task")
    return context.task.func(*args, **kwargs)


async def ainnermost(context: TaskContext, args: Any, kwargs: Any) -> Any:
    log.append("task")
    return await context.task.func(*args, **kwargs)


def context(task: Any, **headers: str) -> TaskContext:
    return TaskContext(Message(new_id(), task.name, headers=headers), task, "default", None, 3)


@pytest.fixture(autouse=True)
def empty_log() -> None:
    log.clear()


def test_without_middleware_the_chain_is_the_callable_itself() -> None:
    assert call_chain(innermost) is innermost
    assert call_chain(ainnermost) is ainnermost


def test_the_first_in_the_list_is_the_outermost() -> None:
    with middleware("outer", "inner"):
        assert call_chain(innermost)(context(sample.add), (1,), {"b": 2}) == 3
    name = sample.add.name
    assert log == [f"outer before {name}", f"inner before {name}", "task", "inner after", "outer after"]


def test_the_same_middleware_wraps_coroutine_functions() -> None:
    with middleware("outer", "inner"):
        assert asyncio.run(call_chain(ainnermost)(context(sample.multiply), (2, 3), {})) == 6
    name = sample.multiply.name
    assert log == [f"outer before {name}", f"inner before {name}", "task", "inner after", "outer after"]


def test_an_error_passes_through() -> None:
    with middleware("outer"), pytest.raises(ValueError, match="oops"):
        call_chain(innermost)(context(sample.fail), ("oops",), {})
    assert log[-1] == "outer after"


def test_functions_and_classes_are_factories() -> None:
    with middleware("Both", "plain", "unused"):
        assert call_chain(innermost)(context(sample.add, tenant="acme"), (1,), {}) == {"wrapped": [2, "acme"]}


def test_middleware_for_functions_is_refused_around_coroutines() -> None:
    with middleware("plain"), pytest.raises(ImproperlyConfigured, match=r"middleware\.plain does not take coroutine"):
        call_chain(ainnermost)


def test_middleware_for_coroutines_is_refused_around_functions() -> None:
    with middleware("only_async"):
        with pytest.raises(ImproperlyConfigured, match=r"middleware\.only_async is for coroutine functions only"):
            call_chain(innermost)
        assert asyncio.run(call_chain(ainnermost)(context(sample.multiply), (2, 3), {})) == [6]


@pytest.mark.usefixtures("registered")
def test_middleware_that_concerns_no_task_is_left_out(registered: dict[str, Any]) -> None:
    for name in [name for name, task in registered.items() if task.is_async]:
        del registered[name]
    with middleware("plain"):
        assert call_chain(ainnermost) is ainnermost


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", r"middleware\.missing cannot be imported"),
        ("not_callable", r"middleware\.not_callable is not callable: 7"),
        ("returns_nothing", r"middleware\.returns_nothing was given a function and returned None"),
    ],
)
def test_middleware_that_is_none_is_refused_by_name(name: str, text: str) -> None:
    with middleware(name), pytest.raises(ImproperlyConfigured, match=text):
        call_chain(innermost)


def test_an_asynchronous_chain_must_stay_one() -> None:
    with middleware("forgets_to_await"), pytest.raises(ImproperlyConfigured, match="was given a coroutine function"):
        call_chain(ainnermost)


def test_middleware_is_imported_once() -> None:
    with middleware("outer"):
        assert load_middleware() is load_middleware()
    assert load_middleware() == ()


def use(settings: SettingsWrapper, *names: str) -> None:
    settings.TASKQ = {**settings.TASKQ, "MIDDLEWARE": [f"tests.tasks.middleware.{name}" for name in names]}


def test_headers_travel_with_the_message(broker: Broker, taskq_settings: SettingsWrapper) -> None:
    use(taskq_settings, "outer", "plain", "Both")
    handle = sample.add.delay(1)
    message = broker.find([id_from_str(handle.id)])[0].message
    assert message is not None
    assert message.headers == {"tenant": "acme", "task": "tests.tasks.sample.add"}


def test_middleware_goes_around_the_sending(broker: Broker, taskq_settings: SettingsWrapper) -> None:
    use(taskq_settings, "courier")
    sample.add.delay(1)
    assert log == ["1 sent to default with {}", "headers", "after"]
    log.clear()
    sample.add.delay_many([((1,), {}), ((2,), {})])
    assert log == ["2 sent to default with None", "headers", "headers", "after"]


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_the_commit_has_its_headers_at_once(broker: Broker, taskq_settings: SettingsWrapper) -> None:
    use(taskq_settings, "courier")
    with transaction.atomic():
        sample.add.delay_on_commit(1)
        assert log == ["1 deferred to default with {}", "headers", "after"]
    assert log[3:] == ["1 sent to default with {'tenant': 'acme'}", "after"]


def test_fates_are_those_that_the_worker_decides() -> None:
    def fate(error: BaseException | None, attempt: int = 0) -> str:
        message = Message(new_id(), sample.add.name, attempt=attempt)
        return fate_of(TaskContext(message, sample.add, "default", None, 1), error)

    assert fate(None) == "succeeded"
    assert (fate(ValueError()), fate(ValueError(), attempt=1)) == ("retried", "failed")
    assert (fate(Retry()), fate(Retry(), attempt=1), fate(TaskTimeout())) == ("retried", "failed", "retried")
    assert (fate(Discard()), fate(TaskCancelled())) == ("discarded", "cancelled")
    assert fate(BreakerOpen(breaker="crm", seconds=5.0), attempt=1) == "put_off"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reserved", "'trace' is reserved"),
        ("prefixed", "'context:x' is reserved"),
        ("numeric", "'x': 1 is not a string"),
        ("no_dict", "must return a dict"),
    ],
)
def test_headers_that_are_none_are_refused(
    broker: Broker, taskq_settings: SettingsWrapper, name: str, text: str
) -> None:
    use(taskq_settings, name)
    with pytest.raises(ImproperlyConfigured, match=rf"tests\.tasks\.middleware\.{name}\.headers.*{re.escape(text)}"):
        sample.add.delay(1)


@pytest.mark.django_db(transaction=True)
def test_a_worker_runs_the_chain(worker: StartWorker, taskq_settings: SettingsWrapper) -> None:
    use(taskq_settings, "plain")
    taskq = {"MIDDLEWARE": ["tests.tasks.middleware.outer", "tests.tasks.middleware.inner"]}
    worker("--threads", "2", tasks=["tests.tasks.sample"], taskq=taskq)
    assert sample.add.delay(1).get(timeout=5) == 2
    assert sample.multiply.delay(2, 3).get(timeout=5) == 6
    assert sample.about.delay().get(timeout=5)["headers"] == {"tenant": "acme", "task": "tests.tasks.sample.about"}
