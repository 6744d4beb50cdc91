"""Sealed tasks from delay() to get(), with a real worker; and what Redis and the database hold of them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from django_taskq import TaskFailed, get_task
from django_taskq.exceptions import KeyMissing, ResultError
from django_taskq.models import DeadTask, TaskResult
from django_taskq.requeue import requeue
from tests.encryption.conftest import K1, K2, stored, with_keys
from tests.encryption.tasks import SECRET, by_outbox, charge, decline, forgotten, give_up, odd, plain, together
from tests.servers import wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker
    from tests.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


def recorded(count: int) -> None:
    wait_for(lambda: TaskResult.objects.count() >= count, 10, lambda: f"{count} records")


def test_nothing_of_a_sealed_task_is_stored_in_plain(
    keys: SettingsWrapper, worker: StartWorker, redis_server: RedisServer
):
    with_keys(keys, {"k1": K1, "k2": K2}, CAPTURE_LOGS=True)
    sent = [charge.delay(SECRET, day=date(2026, 12, 1)), *together.delay_many([((SECRET,), {}), ((SECRET,), {})])]
    scheduled = charge.using(run_after=timedelta(hours=1)).delay(SECRET)
    failing, given_up, odd_one = decline.delay(SECRET), give_up.delay(SECRET), odd.delay(SECRET)
    unrecorded, open_one = forgotten.delay(SECRET), plain.delay("seen by everybody")
    with transaction.atomic():
        late = by_outbox.delay(SECRET)
    assert SECRET.encode() not in stored(redis_server)
    process = worker(tasks=["tests.encryption.tasks"])
    assert sent[0].get(timeout=10) == [SECRET, "2026-12-01"]
    assert [handle.get(timeout=10) for handle in (*sent[1:], unrecorded, late)] == [SECRET] * 4
    assert get_task(unrecorded.id).get() == SECRET
    with pytest.raises(TaskFailed, match=SECRET) as failure:
        failing.get(timeout=10)
    assert "in decline" in failure.value.traceback
    with pytest.raises(TaskFailed, match=SECRET):
        given_up.get(timeout=10)
    with pytest.raises(ResultError, match="not JSON"):
        odd_one.get(timeout=10)
    assert open_one.get(timeout=10) == "seen by everybody"
    recorded(8)
    found = stored(redis_server)
    assert SECRET.encode() not in found
    assert b"seen by everybody" in found
    said = [line for line in process.output().splitlines() if SECRET in line]
    assert said
    assert all(" tests.encryption.tasks: " in line for line in said)  # by the tasks themselves
    assert TaskResult.objects.get(pk=sent[0].id).log.startswith("$sealed:1:k1:")
    assert scheduled.cancel() is True

    dead = DeadTask.objects.get()
    with_keys(keys, {"k1": None})  # a machine without keys may requeue, and wait
    requeue(dead)
    with pytest.raises(TaskFailed, match="sealed with key k1, which is not here"):
        wait_for(lambda: DeadTask.objects.count() == 2, 10)
        get_task(failing.id).get(timeout=10)
    with pytest.raises(KeyMissing, match="k1"):
        get_task(sent[0].id).get(timeout=10)
