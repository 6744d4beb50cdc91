"""Times the pages of the admin: `python -m benchmarks.page_times ROWS`, as benchmarks/pages.py calls it.

Broker and database come from the environment; prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.test import Client

WORKERS = 20
TASKS = 40  # that the statistics know
MINUTES = 60
DEAD = 100  # results for each dead letter
REPEATED = 10
PAGES = {
    "overview": "overview/", "queues": "queue/", "workers": "worker/", "task types": "tasktype/",
    "results": "taskresult/", "results, failed": "taskresult/?status=failed", "dead letters": "deadtask/",
}  # fmt: skip


def main(rows: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    _insert(rows)
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    client.force_login(get_user_model().objects.create_superuser("operator"))
    with _scene():
        print(json.dumps({name: _measure(client, f"/admin/django_taskq/{page}") for name, page in PAGES.items()}))


def _measure(client: Client, url: str) -> list[float]:
    """Milliseconds, each time with nothing kept from the time before."""
    from django_taskq.admin import shared

    times = []
    for repeated in range(REPEATED + 1):
        shared._kept.clear()
        began = time.perf_counter()
        response = client.get(url)
        if response.status_code != 200:
            raise SystemExit(f"{url}: status {response.status_code}")
        if repeated:  # the first one reads templates
            times.append(1000 * (time.perf_counter() - began))
    return times


def _insert(rows: int) -> None:
    """Results of the last days, one in a hundred of them failed."""
    import datetime as dt
    import uuid

    from django.utils import timezone

    from django_taskq.models import DeadTask, TaskResult

    chance, now = random.Random(7), timezone.now()
    for first in range(0, rows, 5000):
        results, dead = [], []
        for number in range(first, min(first + 5000, rows)):
            at = now - dt.timedelta(seconds=0.3 * number)
            values: dict[str, Any] = {
                "task": f"shop.task_{chance.randrange(TASKS):02}", "queue": f"queue-{chance.randrange(1, 50):02}",
                "args": "[]", "kwargs": f'{{"user_id": {number}}}', "attempts": 1,
                "worker": f"worker-{number % WORKERS}", "enqueued_at": at, "first_started_at": at, "started_at": at,
            }  # fmt: skip
            id, failed = uuid.UUID(int=chance.getrandbits(128)), number % DEAD == 0
            if failed:
                values |= {"error_class": f"shop.Error{chance.randrange(20)}", "error_message": "It did not work."}
                dead.append(DeadTask(task_id=id, failed_at=at, fingerprint=f"{chance.randrange(30):016x}", **values))
            status = "failed" if failed else "succeeded"
            results.append(TaskResult(id=id, status=status, finished_at=at, wait=0.1, duration=0.2, **values))
        TaskResult.objects.bulk_create(results)
        DeadTask.objects.bulk_create(dead)


@contextlib.contextmanager
def _scene() -> Iterator[None]:
    """Queues with tasks in them, workers that run some, an hour of statistics."""
    from django.conf import settings

    from django_taskq.broker import get_broker
    from tests.web.scene import Scene

    scene = Scene(get_broker())
    queues = list(settings.TASKQ["QUEUES"])
    for queue in queues:
        scene.shard.seed_waiting(20, queue=queue)
        scene.shard.seed_scheduled(5, queue=queue)
    for number in range(WORKERS):
        hand = scene.worker(f"worker-{number}", queues=(queues[number], queues[number + WORKERS]))
        scene.run(hand, queue=queues[number])
    for minute in range(MINUTES):
        for number in range(TASKS):
            queue = queues[number]
            scene.past(minute, task=f"shop.task_{number:02}", queue=queue, succeeded=900, failed=3, enqueued=910)
            scene.depth(20, queue, minutes_ago=minute)
    yield
    scene.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
