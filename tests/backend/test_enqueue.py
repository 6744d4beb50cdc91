"""What is refused and with which error; what is sent whatever its receivers do; options and checks."""

from __future__ import annotations

import datetime as dt
import enum
import math
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.core.checks import run_checks
from django.utils.safestring import SafeString

from django_taskq import registry
from django_taskq import task as own_task
from django_taskq.backend import finder, taskq_options
from django_taskq.broker import Broker
from django_taskq.exceptions import InvalidTask as OwnInvalidTask
from django_taskq.exceptions import PayloadTooLarge
from tests.backend import elsewhere, tasks
from tests.backend.api import InvalidTask, api, base, signals
from tests.backend.conftest import Heard, ended
from tests.worker.inside import Crew

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


REFUSED = {
    "a set": ({1, 2}, TypeError, "Unsupported type"),
    "a datetime": (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), TypeError, "Unsupported type"),
    "a number as a key": ({1: 2}, TypeError, "as a key"),
    "None as a key": ([{None: 2}], TypeError, "as a key"),
    "not a number": (math.nan, ValueError, "JSON does not have"),
    "infinity": ({"a": [-math.inf]}, ValueError, "JSON does not have"),
    "a lone surrogate": ("\ud800", ValueError, "surrogate"),
    "bytes": (b"\xff", ValueError, "Unsupported value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_json_would_change_is_refused(broker: Broker, name: str) -> None:
    value, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        tasks.echo.enqueue(value)
    with pytest.raises(error, match=text):
        tasks.echo.enqueue(k=value)
    assert broker.connections.execute("HLEN", broker.keys.index) == 0


def test_what_is_nested_without_end_is_refused(broker: Broker) -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(2 * sys.getrecursionlimit()):  # some tools raise it
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises((ValueError, RecursionError)):
            tasks.echo.enqueue(value)
    assert broker.connections.execute("HLEN", broker.keys.index) == 0


def test_relatives_of_plain_types_are_sent_as_these(broker: Broker) -> None:
    sent = tasks.echo.enqueue(SafeString("<b>"), Colour.RED, Number.ONE, True, 2**70, {Colour.RED: 1})
    found = tasks.echo.get_result(sent.id)
    assert found == sent
    assert [type(value) for value in found.args] == [str, str, int, bool, int, dict]


def test_too_much_is_refused(broker: Broker, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "MAX_PAYLOAD_BYTES": 100}
    with pytest.raises(PayloadTooLarge, match=r"tests\.backend\.tasks\.echo"):
        tasks.echo.enqueue("x" * 100)


def test_run_after_must_be_a_datetime(settings: SettingsWrapper) -> None:
    for use_tz in (True, False):
        settings.USE_TZ = use_tz
        with pytest.raises(InvalidTask, match="run_after must be a datetime"):
            tasks.add.using(run_after=dt.timedelta(minutes=1))
    settings.USE_TZ = True
    with pytest.raises(InvalidTask, match="aware"):
        tasks.add.using(run_after=dt.datetime(2030, 1, 1))  # noqa: DTZ001


def test_queues_are_those_of_taskq(broker: Broker, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    settings.TASKS = {
        **settings.TASKS,
        "any": {"BACKEND": "django_taskq.backend.TaskqBackend", "QUEUES": []},
        "few": {"BACKEND": "django_taskq.backend.TaskqBackend", "QUEUES": ["default"]},
    }
    assert tasks.add.using(queue_name="mail").enqueue(1).task.queue_name == "mail"
    assert tasks.add.using(queue_name="mail", backend="any").queue_name == "mail"
    for backend, queue in (("default", "nope"), ("any", "nope"), ("few", "mail")):
        with pytest.raises(InvalidTask, match=f"Queue '{queue}' is not valid for backend"):
            tasks.add.using(queue_name=queue, backend=backend)


def test_what_is_sent_is_sent_whatever_its_receivers_do(broker: Broker, heard: Heard) -> None:
    def raises(**_: Any) -> None:
        raise RuntimeError("not the sender's fault")

    signals.task_enqueued.connect(raises)
    try:
        sent = tasks.add.enqueue(1)
    finally:
        signals.task_enqueued.disconnect(raises)
    assert tasks.add.get_result(sent.id) == sent
    assert heard.names() == ["enqueued READY"]


def test_one_function_is_a_task_of_one_interface() -> None:
    with pytest.raises(OwnInvalidTask, match="decorators of"):
        own_task(tasks.add.func)
    with pytest.raises(InvalidTask, match="decorators of"):
        base.task(tasks.own.func)


def test_options_that_make_no_sense_are_refused_at_import() -> None:
    with pytest.raises(OwnInvalidTask, match="max_retrys"):
        taskq_options(max_retrys=1)
    with pytest.raises(OwnInvalidTask, match="priority"):
        taskq_options(priority=1)
    with pytest.raises(OwnInvalidTask, match="batch"):
        taskq_options(batch=10)


def test_options_of_a_backend_come_first_and_travel_with_the_call(broker: Broker, settings: SettingsWrapper) -> None:
    assert registry.lookup("tests.backend.tasks.patient").max_retries == 2
    assert registry.lookup("tests.backend.tasks.fail").max_retries == 0
    assert registry.lookup("tests.backend.tasks.add").max_retries == 3
    other = {**settings.TASKS["default"], "OPTIONS": {"defaults": {"max_retries": 7}}}
    settings.TASKS = {**settings.TASKS, "other": other}
    sent = tasks.add.using(backend="other").enqueue(1)
    [found] = broker.find([UUID(sent.id).bytes])
    assert found.message.options == {"max_retries": 7}


def test_the_checks_find_what_is_wrong_with_an_entry_of_tasks(db: None, settings: SettingsWrapper) -> None:
    def problems() -> list[str]:
        return [message.msg for message in run_checks() if message.id == "django_taskq.E008"]

    assert problems() == []
    settings.TASKS = {
        **settings.TASKS,
        "wrong": {
            "BACKEND": "django_taskq.backend.TaskqBackend",
            "QUEUES": ["default", "nope"],
            "OPTIONS": {
                "retries": 3,
                "defaults": {"max_retries": -1},
                "tasks": {"tests.backend.tasks.nope": {}, "tests.backend.tasks.add": {"retry_on": ["no.such.Error"]}},
            },
        },
    }
    found = "\n".join(problems())
    for text in ("no key 'retries'", "max_retries=-1", "no.such", "names nope", "tests.backend.tasks.nope"):
        assert text in found


def test_only_declared_tasks_of_the_project_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def importing(path: str) -> ModuleType:
        imported.append(path)
        return __import__(path, fromlist=["x"])

    monkeypatch.setattr(finder, "import_module", importing)
    monkeypatch.setattr(finder, "_missing", {})
    for name in (
        "os.system",
        "builtins.eval",
        "antigravity.x",
        "tests.backend.tasks._with_first",
        "no",
        "tests.x.y",
        "",
    ):
        assert registry.find(name) is None
    assert "antigravity" not in imported
    assert registry.find("tests.backend.unimported.found") is not None
    assert imported[-1] == "tests.backend.unimported"
    count = len(imported)
    assert registry.find("tests.x.y") is None
    assert len(imported) == count, "not looked for again at once"


def test_backends_of_many_threads_share_their_connections(broker: Broker) -> None:
    """Each thread has a backend of its own."""
    backends: dict[int, object] = {}

    def send(number: int) -> None:
        tasks.add.enqueue(number)
        backends[number] = api.task_backends["default"]

    def connected() -> int:
        return len(broker.connections.execute("CLIENT", "LIST").splitlines())

    tasks.add.enqueue(0)
    before = connected()
    for number in range(20):
        thread = threading.Thread(target=send, args=(number,))
        thread.start()
        thread.join()
    assert len({id(backend) for backend in backends.values()}) == 20
    assert connected() == before


def test_tasks_may_be_of_a_class_of_their_own(crew: Crew, settings: SettingsWrapper) -> None:
    """As an app may do it that adds fields to Task."""
    settings.TASKS = {**settings.TASKS, "own": {"BACKEND": "tests.backend.elsewhere.OwnBackend"}}
    noted = base.task(backend="own")(elsewhere.add)
    assert isinstance(noted, elsewhere.OwnTask)
    task = noted.using(priority=3)
    result = ended(task.enqueue(1, 2))
    assert (result.return_value, type(result.task), result.task.priority) == (3, elsewhere.OwnTask, 3)
    assert task.get_result(result.id) == result


def test_a_backend_is_made_without_a_connection(settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "BROKER": "redis://127.0.0.1:1/0"}
    settings.TASKS = dict(settings.TASKS)
    backend = api.task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.queues == set(settings.TASKQ.get("QUEUES", ["default"]))
