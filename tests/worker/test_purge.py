"""A queue that is purged while workers consume it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from django_taskq import TaskHandle
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger, outcomes

pytestmark = pytest.mark.usefixtures("running")


def test_each_task_is_either_run_or_cancelled(ledger: Ledger) -> None:
    """Waiting, scheduled, failing and being retried: none is both, none is neither."""
    inspector = Inspector(get_broker())
    purged: list[int] = []
    done = threading.Event()

    def purge() -> None:
        while not done.is_set():
            purged.append(inspector.purge("mail"))

    handles: list[TaskHandle[Any]] = []
    thread = threading.Thread(target=purge)
    thread.start()
    while len(handles) < 600 or not sum(purged):
        handles += tasks.works.using(queue_name="mail").delay_many([((ledger.path, 0), {})] * 60)
        handles += tasks.fails.using(queue_name="mail", max_retries=1).delay_many([((ledger.path, 1), {})] * 20)
        handles += tasks.works.using(queue_name="mail", run_after=0.05).delay_many([((ledger.path, 0), {})] * 20)
    ids = {handle._id for handle in handles}
    wait_for(lambda: len(ids & {outcome.id for outcome in outcomes()}) == len(ids), 20)
    done.set()
    thread.join()
    ended = [outcome for outcome in outcomes() if outcome.id in ids]
    assert len(ended) == len(ids) == len(handles)
    statuses = [outcome.status for outcome in ended]
    assert statuses.count("cancelled") == sum(purged)
    assert statuses.count("succeeded") == len(handles) - sum(purged)
    started = {line["id"] for line in ledger.events()}
    cancelled = {outcome.id for outcome in ended if outcome.status == "cancelled" and not outcome.attempts}
    assert not started & {str(handle.id) for handle in handles if handle._id in cancelled}
    found = get_broker().connections.execute("KEYS", "{taskq}:*mail*")
    assert [name for name in found if b":sleepers:" not in name and b":wake:" not in name] == []
