"""What becomes of an idempotency key, however its task ends."""

from __future__ import annotations

from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.submission import Submission
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import TaskFailed
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger

pytestmark = pytest.mark.usefixtures("running")


def ttl(task: str, key: str) -> int:
    """Milliseconds; -1: for ever, -2: there is none."""
    broker = get_broker()
    name = broker.keys.idempotency(f"tests.worker.tasks.{task}", key)
    return int(broker.connections.execute("PTTL", name))


def fail(handle: TaskHandle[Any]) -> None:
    with pytest.raises(TaskFailed):
        handle.get(timeout=10)


def test_a_second_call_gets_the_handle_of_the_first(ledger: Ledger) -> None:
    call = tasks.works.using(idempotency_key="order-1")
    first = call.delay(ledger.path, 0.2)
    second = call.delay(ledger.path, 0.2)
    assert (first.created, second.created, second) == (True, False, first)
    assert ttl("works", "order-1") == -1
    first.get(timeout=5)
    assert len(ledger.events()) == 1


def test_success_keeps_the_key_for_its_time(ledger: Ledger) -> None:
    call = tasks.works.using(idempotency_key="order-2", idempotency_ttl=1)
    first = call.delay(ledger.path, 0)
    first.get(timeout=5)
    assert call.delay(ledger.path, 0) == first
    assert 0 < ttl("works", "order-2") <= 1000
    wait_for(lambda: ttl("works", "order-2") == -2)
    again = call.delay(ledger.path, 0)
    assert again != first
    again.get(timeout=5)


def test_failure_frees_the_key_after_the_last_attempt(ledger: Ledger) -> None:
    call = tasks.fails.using(idempotency_key="order-3", max_retries=1)
    first = call.delay(ledger.path, 9)
    wait_for(lambda: get_broker().find([first._id])[0].state == "scheduled", interval=0.002)
    assert ttl("fails", "order-3") == -1
    fail(first)
    assert ttl("fails", "order-3") == -2
    assert call.delay(ledger.path, 0).created


def test_discarding_frees_the_key() -> None:
    call = tasks.discards.using(idempotency_key="order-4")
    fail(call.delay("no"))
    assert ttl("discards", "order-4") == -2


def test_cancelling_frees_the_key(ledger: Ledger) -> None:
    call = tasks.works.using(idempotency_key="order-5")
    running = call.delay(ledger.path, 30)
    ledger.wait()
    assert running.cancel() is False
    fail(running)
    assert ttl("works", "order-5") == -2
    scheduled = call.using(run_after=60).delay(ledger.path, 0)
    assert scheduled.created
    assert scheduled.cancel() is True
    assert ttl("works", "order-5") == -2


@pytest.mark.parametrize(
    ("task", "options", "status"),
    [
        (tasks.works, {"expires": 0.001}, "expired"),
        (tasks.works, {"timeout": 0.2}, "failed"),
        (tasks.blocks, {"timeout": None, "hard_timeout": 0.2}, "failed"),
    ],
)
def test_running_out_of_time_frees_the_key(task: Any, options: dict[str, Any], status: str, ledger: Ledger) -> None:
    call, broker = task.using(idempotency_key="order-7", **options), get_broker()
    if status == "expired":
        broker.connections.execute("SADD", broker.keys.paused, "default")
    handle = call.delay(ledger.path, 30)
    if status == "expired":
        wait_for(lambda: broker.time() * 1000 > int(handle.id[:8] + handle.id[9:13], 16) + 100)
        Inspector(broker).resume("default")
    fail(handle)
    assert handle.status == status
    assert ttl(task.name.rpartition(".")[2], "order-7") == -2


def test_a_third_lost_worker_frees_the_key(ledger: Ledger) -> None:
    handle = tasks.dies.using(idempotency_key="order-8").delay(ledger.path, "kill")
    fail(handle)
    assert len(ledger.events()) == 3
    assert ttl("dies", "order-8") == -2


def test_a_task_that_is_handed_on_keeps_its_key(ledger: Ledger) -> None:
    call = tasks.dies_once.using(idempotency_key="order-9")
    first = call.delay(ledger.path)
    ledger.wait(2)
    assert call.delay(ledger.path) == first
    assert first.get(timeout=5) == 1
    assert ttl("dies_once", "order-9") > 0


def test_wrong_arguments_free_the_key() -> None:
    broker = get_broker()
    name = broker.keys.idempotency("tests.worker.tasks.double", "order-6")

    message = Message(new_id(), tasks.double.name, b'["no number", 1]', idempotency_key="order-6")
    broker.enqueue([Submission(message, "default")])
    wait_for(lambda: broker.find([message.id])[0].state == "failed")
    assert not broker.connections.execute("EXISTS", name)
