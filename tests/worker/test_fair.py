"""Two tenants share a worker: one that floods the queue, and one with a single task."""

from __future__ import annotations

import os
import signal

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from tests.conftest import StartWorker
from tests.servers import wait_for
from tests.worker import tasks
from tests.worker.conftest import TASKS, Ledger, task_processes


def test_a_flood_does_not_delay_others_nor_does_a_death_lose_any(start: StartWorker, ledger: Ledger) -> None:
    flood = tasks.of_tenant.delay_many([((ledger.path, "flood", number), {}) for number in range(200)])
    process = start("--threads", "2", "--queues", "default:3,mail:1", tasks=TASKS)
    assert Inspector(get_broker()).workers()[0].served == ["default:3", "mail:1"]
    wait_for(lambda: len(ledger.read()) > 20)
    before = len(ledger.read())
    single = tasks.of_tenant.delay(ledger.path, "single", 0)
    single.get(timeout=10)
    order = [line["tenant"] for line in ledger.read()]
    # What the worker had claimed already comes first: as much as starts within 50 ms.
    assert order.index("single") - before < 40
    os.kill(task_processes(process)[0], signal.SIGKILL)
    for handle in flood:
        assert handle.get(timeout=20) is None
    broker = get_broker()
    wait_for(lambda: not broker.connections.execute("ZCARD", broker.keys.queue("default").lanes))
    assert {line["number"] for line in ledger.read() if line["tenant"] == "flood"} == set(range(200))
