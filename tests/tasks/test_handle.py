"""Handles: what became of a task, asked with and without a worker, in Redis and in the records."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from django_taskq import (
    ResultError,
    ResultTimeout,
    TaskFailed,
    TaskHandle,
    TaskNotFound,
    get_task,
)
from django_taskq.broker import Broker
from django_taskq.core.ids import id_from_str
from django_taskq.core.states import State
from django_taskq.models import TaskResult
from django_taskq.signals import task_cancelled
from tests.conftest import StartWorker
from tests.servers import RedisServer, wait_for
from tests.tasks import sample

# --- without a worker -------------------------------------------------------------------------------------------------


def test_handles_are_equal_by_id(broker: Broker) -> None:
    handle = sample.add.delay(1)
    assert get_task(handle.id) == handle
    assert len({handle, get_task(handle.id), sample.add.delay(1)}) == 2
    assert handle != handle.id
    assert handle.id in repr(handle)
    assert "tests.tasks.sample.add" in repr(handle)
    assert pickle.loads(pickle.dumps(handle)) == handle


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "7", "../etc", None, 7, "7f1c0c1e-93f7-4f0e-a6e5-0d8b5d1f3a52", "\x00", "ä" * 500]
)
def test_an_unknown_id_is_task_not_found(broker: Broker, wrong: Any) -> None:
    with pytest.raises(TaskNotFound):
        get_task(wrong)


def test_get_gives_up_after_its_timeout(broker: Broker) -> None:
    handle = sample.add.delay(1)
    for timeout in (0, -1, 0.3):
        started = time.monotonic()
        with pytest.raises(ResultTimeout, match=rf"{handle.id}.* is queued"):
            handle.get(timeout=timeout)
        assert max(0, timeout) <= time.monotonic() - started < max(0, timeout) + 0.5
    with pytest.raises(TimeoutError):
        asyncio.run(handle.aget(timeout=0.1))


def test_a_queued_task_is_cancelled_for_good(broker: Broker) -> None:
    handle = sample.add.delay(1)
    assert handle.cancel() is True
    assert handle.status is State.CANCELLED
    assert handle.cancel() is None
    assert asyncio.run(handle.acancel()) is None
    with pytest.raises(TaskFailed, match=f"tests.tasks.sample.add {handle.id} cancelled") as caught:
        handle.get(timeout=5)
    assert caught.value.status == "cancelled"


def test_cancelling_what_waits_sends_the_signal(broker: Broker) -> None:
    told: list[tuple[Any, ...]] = []

    def note(sender: Any, **values: Any) -> None:
        told.append((sender, values["task_id"], values["queue"], values["attempt"], values["reason"]))

    queued, scheduled = sample.add.delay(1), sample.add.using(run_after=60).delay(1)
    task_cancelled.connect(note)
    try:
        for handle in (queued, scheduled):
            assert handle.cancel() is True
            assert handle.cancel() is None
    finally:
        task_cancelled.disconnect(note)
    assert told == [(sample.add, handle.id, "default", 0, "cancelled") for handle in (queued, scheduled)]


@pytest.mark.django_db
def test_cancelling_what_nobody_knows_is_task_not_found(broker: Broker) -> None:
    with pytest.raises(TaskNotFound):
        TaskHandle(uuid.uuid4().bytes).cancel()


def test_status_is_as_of_the_last_refresh(broker: Broker) -> None:
    handle = sample.add.delay(1)
    broker.cancel([id_from_str(handle.id)])
    assert handle.status is State.QUEUED
    handle.refresh()
    assert handle.status is State.CANCELLED
    asyncio.run(get_task(handle.id).arefresh())


def test_whoever_waits_hears_of_the_end(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With looking again put off for longer than the test takes, only the announcement can end the wait in time."""
    monkeypatch.setattr("django_taskq.handle.LOOK_AGAIN", 60)
    for wait in (lambda handle: handle.get(timeout=20), lambda handle: asyncio.run(handle.aget(timeout=20))):
        handle = sample.add.delay(1)
        timer = threading.Timer(0.3, broker.cancel, ([id_from_str(handle.id)],))
        timer.start()
        started = time.monotonic()
        with pytest.raises(TaskFailed, match="cancelled"):
            wait(handle)
        assert 0.2 < time.monotonic() - started < 3
        timer.join()


def test_a_lost_announcement_only_takes_longer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.broker.listener.Listener.wait", lambda self, seconds: time.sleep(0.1))
    handle = sample.add.delay(1)
    timer = threading.Timer(0.2, broker.cancel, ([id_from_str(handle.id)],))
    timer.start()
    with pytest.raises(TaskFailed):
        handle.get(timeout=5)
    timer.join()


def test_many_coroutines_wait_at_the_same_time(broker: Broker) -> None:
    """More of them than the event loop's executor has threads, and cancelled by one that needs a thread, too."""

    async def wait_for_all() -> list[Any]:
        handles = [await sample.add.adelay(number) for number in range(80)]
        waiting = [asyncio.create_task(handle.aget(timeout=20)) for handle in handles]
        await asyncio.sleep(0.3)
        for handle in handles:
            await handle.acancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    started = time.monotonic()
    ends = asyncio.run(wait_for_all())
    assert {type(end) for end in ends} == {TaskFailed}
    assert time.monotonic() - started < 10


def test_a_cancelled_aget_leaves_nothing_behind(broker: Broker, redis_server: RedisServer) -> None:
    async def abandon(handle: TaskHandle[int]) -> None:
        await asyncio.wait_for(handle.aget(), 0.3)

    with pytest.raises(TimeoutError):
        asyncio.run(abandon(sample.add.delay(1)))
    with redis_server.client() as client:
        wait_for(lambda: not client.pubsub_channels())


# --- in the records ---------------------------------------------------------------------------------------------------


def record(**fields: Any) -> TaskHandle[Any]:
    row = TaskResult.objects.create(
        **{
            "id": uuid.uuid4(), "task": "tests.tasks.sample.move", "queue": "default", "status": "succeeded",
            "finished_at": datetime.now(UTC), **fields,
        }
    )  # fmt: skip
    return get_task(str(row.id))


@pytest.mark.django_db
def test_the_record_answers_when_redis_has_forgotten(broker: Broker) -> None:
    handle = record(result='"2024-02-29T00:00:00Z"')
    assert handle.status is State.SUCCEEDED
    assert handle.get(timeout=0) == datetime(2024, 2, 29, tzinfo=UTC)
    assert handle.cancel() is None
    assert record(result=None).get() is None
    assert record(task="a.task.of.another.site", result="[1]").get() == [1]


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "discarded"])
def test_every_other_end_is_task_failed(broker: Broker, status: str) -> None:
    handle = record(status=status, error_class="shop.Oops", error_message="no luck", traceback="Traceback: here")
    with pytest.raises(TaskFailed, match=f"sample.move {handle.id} {status}: shop.Oops: no luck") as caught:
        handle.get()
    failure = caught.value
    assert (failure.status, failure.error_class, failure.error_message) == (status, "shop.Oops", "no luck")
    assert failure.traceback == "Traceback: here"
    assert failure.__notes__ == ["In the worker:\nTraceback: here"]


@pytest.mark.django_db
def test_a_reason_stands_in_where_there_is_no_error(broker: Broker) -> None:
    with pytest.raises(TaskFailed, match=r"discarded: nobody wants it$"):
        record(status="discarded", reason="nobody wants it").get()


@pytest.mark.django_db
def test_a_result_that_cannot_be_had_is_a_result_error(broker: Broker) -> None:
    with pytest.raises(ResultError, match="could not be stored: too big"):
        record(result_error="too big").get()
    with pytest.raises(ResultError, match="return hint"):
        record(result="[1]").get()


# --- with a worker ----------------------------------------------------------------------------------------------------


@pytest.fixture
def at_work(worker: StartWorker) -> None:
    worker("--threads", "2", tasks=["tests.tasks.sample"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_work")
def test_results_come_back_typed() -> None:
    when, by = datetime(2024, 2, 29, tzinfo=UTC), timedelta(hours=1)
    assert sample.add.delay(1, b=2).get(timeout=10) == 3
    assert sample.move.delay(when, by, price=Decimal("1.10")).get(timeout=5) == when + by
    assert sample.multiply.delay(6, 7).get(timeout=5) == 42
    assert asyncio.run(sample.multiply.delay(6, 7).aget(timeout=5)) == 42
    assert sample.nothing.delay().get(timeout=5) is None  # type: ignore[func-returns-value]
    handle = sample.add.delay(5)
    wait_for(lambda: get_task(handle.id).status == "succeeded")
    assert get_task(handle.id).get() == 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_work")
def test_a_task_knows_itself() -> None:
    handle = sample.about.using(priority=3, max_retries=2, timeout=30).delay()
    about = handle.get(timeout=10)
    assert about.pop("limit") == pytest.approx(30, abs=5)
    assert about == {
        "id": handle.id, "name": "tests.tasks.sample.about", "attempt": 1, "run": 1, "queue": "default",
        "retries_left": 2, "headers": {},
    }  # fmt: skip
    assert sample.whoami.delay("hi").get(timeout=5).startswith("hi tests.tasks.sample.whoami")
    assert sample.awhoami.delay("hi").get(timeout=5) == "hi tests.tasks.sample.awhoami"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_work")
def test_failures_are_raised_with_what_they_were() -> None:
    with pytest.raises(TaskFailed, match="ValueError: no luck") as caught:
        sample.fail.delay("no luck").get(timeout=10)
    assert caught.value.error_message == "no luck"
    assert "raise ValueError(text)" in caught.value.traceback
    with pytest.raises(TaskFailed, match=r"discarded.*not wanted"):
        sample.discard.delay("not wanted").get(timeout=5)
    with pytest.raises(ResultError, match="object"):
        sample.unstorable.delay().get(timeout=5)
    late = sample.slow.delay(3)
    wait_for(lambda: get_task(late.id).status == "running")
    with pytest.raises(ResultTimeout, match="is running"):
        late.get(timeout=0.2)
