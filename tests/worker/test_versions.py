"""Messages of a later version, and of tasks that only later workers know, wait until a deployment brings those."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker, scripts
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.keys import index_field
from django_taskq.core.fields import unpack_fields
from django_taskq.core.ids import new_id
from django_taskq.exceptions import TaskFailed
from django_taskq.models import DeadTask
from django_taskq.requeue import Requeued, RequeueRefused, requeue
from django_taskq.worker.unknown import LONGEST, SHORTEST, UNKNOWN_GRACE
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger

pytestmark = pytest.mark.usefixtures("running")

LATER = ("v", "2", "zz", b"\x80 what only version 2 can read")
MY_PID = "tests.worker.tasks.my_pid"
KEY = "{taskq}:idempotency:shop.later:k"


def send(*fields: bytes | str, task: str = MY_PID, id: bytes | None = None) -> TaskHandle[Any]:
    """What a later producer does: the message in its lane, its place in the index, a token for a sleeping worker."""
    broker, id = get_broker(), id or new_id()
    lane = broker.keys.queue("default").lanes, broker.keys.lane("default", 0)
    entry = broker.connections.execute("XADD", lane[1], "*", "i", id, "t", task, *fields)
    broker.connections.execute("HSET", broker.keys.index, index_field(id), entry)
    broker.connections.execute("ZADD", lane[0], 0, lane[1])
    broker.connections.execute("SADD", broker.keys.ready, "default")
    broker.connections.execute("RPUSH", broker.keys.queue("default").wake, "")
    return TaskHandle(id)


def put_off(handle: TaskHandle[Any]) -> tuple[float, dict[bytes, bytes]]:
    """Once it is scheduled: seconds until it is looked at again, and the fields of its message, undecoded."""
    broker = get_broker()
    keys = broker.keys
    arguments = (2, keys.index, keys.outcomes, keys.lane_prefix, keys.scheduled_prefix, handle._id)

    def found() -> Any:
        return [item for item in broker.connections.run(scripts.FIND, arguments) if item and item[0][:1] == b"s"]

    _, due, (suffix, *fields) = wait_for(found)[0]
    assert suffix == b"default:0"
    return int(due) / 1000 - broker.time(), dict(zip(fields[::2], fields[1::2], strict=True))


def ago(seconds: float) -> str:
    return str(int((time.time() - seconds) * 1000))


def failure_of(handle: TaskHandle[Any]) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        handle.get(timeout=10)
    return caught.value


def test_fields_that_a_later_version_added_to_this_one_are_passed_over() -> None:
    assert isinstance(send("zz", b"\x80", "g", "no number").get(timeout=10), int)


def test_a_retry_keeps_the_fields_that_only_a_later_version_knows() -> None:
    handle = send("zz", b"\x80 new", "g", "1", "m", '{"a": "b"}', "yy", "", task="tests.worker.tasks.asks_for_a_retry")
    fields = put_off(handle)[1]
    assert (fields[b"zz"], fields[b"yy"], fields[b"m"], fields[b"n"]) == (b"\x80 new", b"", b'{"a":"b"}', b"1")
    assert b"g" not in fields
    assert handle.cancel()


@pytest.mark.parametrize(("task", "fields"), [(MY_PID, LATER), ("shop.later", ("zz", b"\x80 not for us"))])
def test_what_cannot_be_run_here_is_put_off_as_it_is(task: str, fields: tuple[bytes | str, ...]) -> None:
    before = time.time() * 1000
    handle = send(*fields, task=task)
    delay, stored = put_off(handle)
    assert SHORTEST - 2 < delay <= SHORTEST
    assert before - 2000 < int(stored.pop(b"g")) < before + 10_000
    assert before - 2000 < int(stored.pop(b"e")) < before + 10_000
    sent = [field.encode() if isinstance(field, str) else field for field in fields]
    assert stored == {b"i": handle._id, b"t": task.encode(), **dict(zip(sent[::2], sent[1::2], strict=True))}


@pytest.mark.parametrize(("task", "fields"), [(MY_PID, LATER), ("shop.later", ())])
def test_the_longer_it_has_waited_the_less_often_it_is_looked_at(task: str, fields: tuple[bytes | str, ...]) -> None:
    since = ago(UNKNOWN_GRACE - 60)
    delay, stored = put_off(send(*fields, "g", since, "e", "1234", task=task))
    assert LONGEST - 2 < delay <= LONGEST
    assert (stored[b"g"], stored[b"e"]) == (since.encode(), b"1234")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("task", "fields", "reason", "text"),
    [
        (MY_PID, LATER, "unknown_version", "has version '2'"),
        ("shop.later", (), "unknown_task", "a task named 'shop.later'"),
    ],
)
def test_after_the_grace_it_is_buried_with_its_message_and_can_be_requeued(
    task: str, fields: tuple[bytes | str, ...], reason: str, text: str
) -> None:
    broker, id = get_broker(), new_id()
    broker.connections.execute("SET", KEY.replace("shop.later", task), id)
    handle = send(*fields, "g", ago(UNKNOWN_GRACE + 1), "d", "k", "r", "4", task=task, id=id)
    failure = failure_of(handle)
    assert text in str(failure)
    assert not broker.connections.execute("EXISTS", KEY.replace("shop.later", task))
    dead = wait_for(lambda: DeadTask.objects.filter(task_id=handle.id).first())
    assert (dead.reason, dead.task, dead.run, dead.attempts) == (reason, task, 5, 0)
    raw = unpack_fields(bytes(dead.raw))
    assert all((field.encode() if isinstance(field, str) else field) in raw for field in fields)
    if reason == "unknown_task":
        assert requeue(dead) is Requeued.SENT
        assert put_off(handle)[0] > 0  # not buried at once: its time begins anew
    else:
        with pytest.raises(RequeueRefused, match="has version '2'"):
            requeue(dead)


def test_a_message_of_a_later_version_can_be_cancelled_and_purged() -> None:
    cancelled, purged = send(*LATER), send(*LATER)
    put_off(cancelled)
    put_off(purged)
    assert cancelled.cancel() is True
    assert failure_of(cancelled).status == "cancelled"
    Inspector(get_broker()).purge("default")
    assert failure_of(purged).status == "cancelled"


def test_a_task_that_was_put_off_and_then_run_begins_anew(ledger: Ledger) -> None:
    handle = send("g", ago(UNKNOWN_GRACE - 1), "a", f'["{ledger.path}", 60]', task="tests.worker.tasks.asks_again")
    _, stored = put_off(handle)
    assert b"g" not in stored
    handle.cancel()


def test_a_worker_goes_on_after_all_of_that() -> None:
    assert tasks.my_pid.delay().get(timeout=10)
