"""@task: which functions and options it takes, and what it makes of them."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_taskq import Exponential, InvalidTask, TaskqError, UnknownQueue, current_task, registry, task
from django_taskq.moments import Moment
from django_taskq.task import AsyncTask, Task
from tests.servers import ROOT
from tests.tasks import sample

pytestmark = pytest.mark.usefixtures("registered")

# --- functions --------------------------------------------------------------------------------------------------------


def test_a_task_is_registered_by_module_and_name() -> None:
    assert sample.add.name == "tests.tasks.sample.add"
    assert registry.lookup("tests.tasks.sample.add") is sample.add
    assert registry.lookup("tests.tasks.sample.nobody") is None
    assert sample.add in registry.all_tasks()


def test_a_task_stays_the_function_it_was() -> None:
    assert sample.add(1, b=5) == 6
    assert sample.add.__doc__ == "Adds two numbers."
    assert sample.add.__name__ == "add"
    assert list(inspect.signature(sample.add).parameters) == ["a", "b"]
    with pytest.raises(TypeError):
        sample.add()  # type: ignore[call-arg]


def test_a_coroutine_function_stays_one() -> None:
    assert isinstance(sample.multiply, AsyncTask)
    assert (sample.multiply.is_async, sample.add.is_async) == (True, False)
    assert asyncio.run(sample.multiply(3, 4)) == 12


def test_a_plain_call_makes_a_context_for_those_who_take_one() -> None:
    greeting, name, _id, attempt = sample.whoami("hi").split()
    assert (greeting, name, attempt) == ("hi", "tests.tasks.sample.whoami", "1")
    assert asyncio.run(sample.awhoami("hi")) == "hi tests.tasks.sample.awhoami"


def test_a_task_is_pickled_and_copied_by_name() -> None:
    for twin in (pickle.loads(pickle.dumps(sample.add)), copy.deepcopy({"task": sample.add})["task"]):
        assert twin is sample.add


def test_there_is_no_current_task_outside_of_one() -> None:
    with pytest.raises(TaskqError, match="outside of a running task"):
        current_task()


@pytest.mark.parametrize(
    ("candidate", "text"),
    [
        (sample.anonymous, "lambda"), (sample.generator, "generator"), (sample.async_generator, "generator"),
        (sample.Holder.method, "top level of a module"), (sample.Holder.static, "top level of a module"),
        (sample.Holder().method, "not on a method"), (sample.Holder.klass, "not on a method"),
        (sample.Holder, "the class Holder"), (sample.Holder(), "not on a Holder"),
        (functools.partial(sample.function, 1), "not on a partial"), (len, "not on a builtin"),
        (sample.add, "not on a Task"), ("name", "not on a str"), (7, "not on a int"),
    ],
)  # fmt: skip
def test_what_no_worker_could_find_or_run_is_refused(candidate: Any, text: str) -> None:
    with pytest.raises(InvalidTask, match=text):
        task(candidate)


def test_a_function_inside_another_is_refused() -> None:
    def inner() -> None: ...

    with pytest.raises(InvalidTask, match=r"inner: a task must be a function at the top level"):
        task(inner)


def test_a_wrapped_function_keeps_its_signature(registered: dict[str, object]) -> None:
    @functools.wraps(sample.function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return sample.function(*args, **kwargs)

    made = task(wrapper)
    assert made.name == "tests.tasks.sample.function"
    assert made.bind(*made.codec.encode((1,), {"b": 5})) == ((1,), {"b": 5})
    assert made(1) == 3


def test_two_tasks_of_one_name_are_refused_naming_both() -> None:
    task(name="shop.work")(sample.function)
    with pytest.raises(InvalidTask, match=r"shop\.work.*sample\.function and tests\.tasks\.sample\.other_function"):
        task(name="shop.work")(sample.other_function)


def test_a_module_that_is_loaded_again_replaces_its_tasks() -> None:
    first, second = task(sample.function), task(sample.function)
    assert registry.lookup(second.name) is second is not first


@pytest.mark.parametrize("function", [sample.no_parameters, sample.keyword_only])
def test_takes_context_needs_a_parameter_to_take_it(function: Any) -> None:
    with pytest.raises(InvalidTask, match="takes_context"):
        task(takes_context=True)(function)


# --- options ----------------------------------------------------------------------------------------------------------


def made(**options: Any) -> Task[..., Any]:
    return task(**options)(sample.function)  # type: ignore[no-any-return, call-overload]


def test_the_defaults() -> None:
    plain = made()
    assert (plain.queue_name, plain.priority, plain.max_retries) == ("default", 0, 3)
    assert plain.backoff == Exponential(base=1, factor=2, maximum=600, jitter=True)
    assert (plain.retry_on, plain.discard_on) == ((Exception,), ())
    assert (plain.timeout, plain.hard_timeout) == (300, None)
    assert (plain.idempotency_key, plain.idempotency_ttl, plain.record) == (None, 86_400, "all")
    assert (plain.run_after, plain.expires, plain.takes_context) == (None, None, False)


def test_options_are_attributes() -> None:
    declared = made(
        name="shop.work", priority=-5, max_retries=0, backoff=[1, 2], retry_on=ValueError, discard_on=[KeyError],
        timeout=timedelta(seconds=1.5), hard_timeout=60, run_after=timedelta(seconds=2), expires=90,
        idempotency_key="only one", idempotency_ttl=timedelta(hours=1), record="failures",
    )  # fmt: skip
    assert (declared.name, declared.priority, declared.max_retries) == ("shop.work", -5, 0)
    assert (declared.retry_on, declared.discard_on) == ((ValueError,), (KeyError,))
    assert (declared.timeout, declared.hard_timeout) == (1.5, 60)
    assert (declared.run_after, declared.expires) == (Moment(2000, relative=True), Moment(90_000, relative=True))
    assert (declared.idempotency_key, declared.idempotency_ttl, declared.record) == ("only one", 3600, "failures")
    assert declared.backoff(9) == 2


WRONG: list[tuple[str, list[Any]]] = [
    ("name", ["", "a b", "a:b", "x" * 201, 7, "{x}", "a\n"]),
    ("queue_name", ["", None, 7]),
    ("priority", [101, -101, 1.0, True, "high", None]),
    ("run_after", ["soon", True, float("nan"), float("inf"), datetime(2024, 1, 1), timedelta.max]),  # noqa: DTZ001
    ("expires", ["never", object(), timedelta.max]),
    ("deadline", ["never", object(), timedelta.max]),
    ("inherit_deadline", [1, None, "yes"]),
    ("enqueue_timeout", ["soon", object(), timedelta.max]),
    ("max_retries", [-1, None, True, 1.0, "3"]),
    ("backoff", ["1", [], None, [-1], -1]),
    ("retry_on", [None, "ValueError", [7], [int], object()]),
    ("discard_on", ["x", [None], dict]),
    ("timeout", [0, -1, "5", True, float("nan"), timedelta(0)]),
    ("hard_timeout", [0, "x"]),
    ("idempotency_key", ["", 7, "x" * 256, "a\nb"]),
    ("idempotency_ttl", [0, None, "1", -5]),
    ("record", ["none", True, None, []]),
    ("api", [None, 1, "yes"]),
]


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in WRONG for value in values])
def test_an_option_that_makes_no_sense_is_refused_naming_task_and_option(option: str, value: Any) -> None:
    with pytest.raises(InvalidTask, match=rf"tests\.tasks\.sample\.function: option {option}="):
        made(**{option: value})
    if option not in ("name", "backoff", "retry_on", "discard_on", "api"):
        with pytest.raises(InvalidTask, match=rf"tests\.tasks\.sample\.add\.using\(\): option {option}="):
            sample.add.using(**{option: value})


def test_an_unknown_option_is_refused_with_what_was_meant() -> None:
    with pytest.raises(InvalidTask, match=r"sample\.function: unknown option 'max_retry'.*mean 'max_retries'\?"):
        made(max_retry=3)
    with pytest.raises(InvalidTask, match=r"unknown option 'queue'. Did you mean 'queue_name'\?"):
        sample.add.using(queue="default")  # type: ignore[call-arg]
    for option in ("backoff", "retry_on", "name", "takes_context", "api"):
        with pytest.raises(InvalidTask, match=f"unknown option '{option}'. It is decided by @task alone"):
            sample.add.using(**{option: 1})


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 10, "hard_timeout": 10},
        {"timeout": 10, "hard_timeout": 5},
        {"run_after": 60, "expires": 60},
        {"run_after": 60, "deadline": 30},
        {"run_after": datetime(2030, 1, 2, tzinfo=UTC), "expires": datetime(2030, 1, 1, tzinfo=UTC)},
        {"retry_on": (ValueError, KeyError), "discard_on": KeyError},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match=r"Task tests\.tasks\.sample\.function: "):
        made(**options)


def test_what_using_changes_must_agree_with_what_was_declared() -> None:
    declared = made(timeout=10, run_after=30)
    with pytest.raises(InvalidTask, match=r"function\.using\(\): hard_timeout=5 kills"):
        declared.using(hard_timeout=5)
    with pytest.raises(InvalidTask, match="expire before"):
        declared.using(priority=1).using(expires=20)
    assert declared.using(hard_timeout=5, timeout=None)


def test_a_short_hard_timeout_needs_no_soft_one() -> None:
    assert made(hard_timeout=5).hard_timeout == 5


def test_an_undeclared_queue_is_refused_naming_the_declared_ones() -> None:
    with override_settings(TASKQ={"QUEUES": {"mail": {}, "default": {}}}):
        assert made(queue_name="mail").queue_name == "mail"
        with pytest.raises(UnknownQueue, match=r"sample\.function: queue 'post' is not declared.*'mail', 'default'"):
            made(queue_name="post")
        with pytest.raises(UnknownQueue, match=r"add\.using\(\): queue 'post'"):
            sample.add.using(queue_name="post")
    with override_settings(TASKQ={"QUEUES": {"mail": {}}}), pytest.raises(UnknownQueue, match="'default'"):
        made()


def test_task_defaults_lie_below_a_tasks_own_options() -> None:
    defaults = {"max_retries": 7, "queue_name": "mail", "timeout": timedelta(minutes=1), "backoff": [5]}
    with override_settings(TASKQ={"QUEUES": {"mail": {}}, "TASK_DEFAULTS": defaults, "RECORD": "failures"}):
        declared = made(max_retries=1)
        assert (declared.max_retries, declared.queue_name, declared.timeout) == (1, "mail", 60)
        assert declared.record == "failures"
        assert declared.backoff(1) == 5
        # Tasks that were declared before follow, too.
        assert (sample.add.max_retries, sample.add.queue_name) == (7, "mail")
    assert (sample.add.max_retries, sample.add.queue_name) == (3, "default")


@pytest.mark.parametrize(
    ("defaults", "text"),
    [
        ({"max_retry": 3}, r"TASK_DEFAULTS'\]: unknown option 'max_retry'"),
        ({"name": "x"}, "decided by @task alone"),
        ({"timeout": 0}, "option timeout=0"),
        ({"idempotency_key": "x"}, "idempotency_key"),
        ({"api": True}, "decided by @task alone"),
    ],
)
def test_task_defaults_that_make_no_sense_are_refused(defaults: dict[str, Any], text: str) -> None:
    with override_settings(TASKQ={"TASK_DEFAULTS": defaults}), pytest.raises(InvalidTask, match=text):
        made()


def test_an_attribute_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"sample\.add"):
        sample.add.delya(1)  # type: ignore[attr-defined]


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_without_use_tz_a_naive_datetime_is_local_time() -> None:
    declared = made(run_after=datetime(2030, 7, 1, 12))  # noqa: DTZ001
    assert declared.run_after == Moment(int(datetime(2030, 7, 1, 10, tzinfo=UTC).timestamp() * 1000), relative=False)


def test_times_are_rounded_up_to_the_millisecond_and_never_before_now() -> None:
    assert made(run_after=0.0001).run_after == Moment(1, relative=True)
    assert made(run_after=-5).run_after == Moment(0, relative=True)
    late = datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert made(run_after=late).run_after == Moment(int(late.timestamp()) * 1000 + 1, relative=False)


def test_a_task_may_be_defined_before_there_are_settings() -> None:
    program = """
from django_taskq import task, InvalidTask
import sys, types
module = types.ModuleType("plain"); sys.modules["plain"] = module
exec("def work(a: int) -> int: return a", module.__dict__)
work = task(queue_name="mail")(module.work)
try:
    task(queu_name="mail")(module.work)
except InvalidTask as error:
    print(error)
from django.conf import settings
settings.configure(TASKQ={"QUEUES": {"mail": {}}, "TASK_DEFAULTS": {"max_retries": 9}})
print(work.name, work.queue_name, work.max_retries, work(3))
"""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "Did you mean 'queue_name'?" in output[0]
    assert output[1] == "plain.work mail 9 3"


def test_every_tasks_module_of_an_installed_app_is_found() -> None:
    program = (
        "import django, json; django.setup(); from django_taskq.registry import all_tasks; "
        "print(json.dumps([task.name for task in all_tasks()]))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    names = json.loads(output)
    assert "tests.sampleapp.tasks.add" in names
    assert any(name.startswith("testproject.shop.tasks.") for name in names)
