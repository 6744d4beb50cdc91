"""A site on a busy day: what the pages show when there is something to see."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.utils import timezone

from django_taskq.api import tokens
from django_taskq.broker.inspector import Inspector
from django_taskq.bulk import Writer
from django_taskq.core.histogram import bucket_of
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Attempt
from django_taskq.core.outcome import Outcome
from django_taskq.core.progress import Progress
from django_taskq.models import DeadTask, PeriodicTask, TaskResult
from tests.broker.helpers import Hand
from tests.records.outcomes import entries, failed, succeeded
from tests.web.scene import LIMITS, OVERVIEW, QUEUES, TYPES, WORKERS, Scene

ADMIN = "/admin/django_taskq/"
RESULTS, DEAD, TOKENS, PERIODIC = (f"{ADMIN}{name}/" for name in ("taskresult", "deadtask", "apitoken", "periodictask"))
TASKS = ("shop.tasks.send_receipt", "shop.tasks.resize_picture", "shop.tasks.index_product", "shop.tasks.sync_stock")
MESSAGES = ("SMTP server temporarily unavailable", "cannot identify image file", "'sku-7731'")
ERRORS = ("smtplib.SMTPServerDisconnected", "PIL.UnidentifiedImageError", "builtins.KeyError")
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/{place}", line {line}, in {function}
    {code}
{error}: {message}
"""
PLACES = (
    ("shop/mail.py", 41, "send", "connection.send(message)"),
    ("shop/pictures.py", 88, "resize", "image = Image.open(path)"),
    ("shop/stock.py", 17, "quantity", "return levels[sku]"),
)


@dataclass
class Sights:
    """The addresses of what there is, and the workers, which must be kept alive while somebody looks."""

    scene: Scene
    alive: list[Hand] = field(default_factory=list)
    silent: list[Hand] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    running: str = ""
    waiting: str = ""
    dead: int = 0

    def beat(self) -> None:
        for hand in self.alive:
            self.scene.silence(hand, 0)
        for hand in self.silent:
            self.scene.silence(hand, 9)


def record(*outcomes: Outcome) -> None:
    Writer().write(entries(*outcomes))


def failure(kind: int, at: float, **values: object) -> Outcome:
    place, line, function, code = PLACES[kind]
    text = TRACEBACK.format(
        place=place, line=line, function=function, code=code, error=ERRORS[kind], message=MESSAGES[kind]
    )
    earlier = Attempt(1, at - 62, at - 61, "web-1:4711:a3f0", "retry", ERRORS[kind], MESSAGES[kind], text)
    times = {"enqueued": at - 64, "first_started": at - 62, "started": at - 1.4, "finished": at, "wait": 2.0}
    about = {"error_class": ERRORS[kind], "error_message": MESSAGES[kind], "traceback": text, "history": [earlier]}
    more = {"task": TASKS[kind], "worker": "web-1:4711:a3f0", "args": b"[7731]", "kwargs": b'{"language":"de"}'}
    return failed(**{**times, **about, **more, **values})


def records(now: float) -> None:
    """Results and dead letters of the last hours."""
    good = [
        succeeded(
            task=TASKS[n % 4], enqueued=now - 40 * n - 3, first_started=now - 40 * n - 2.6, started=now - 40 * n - 2.6,
            finished=now - 40 * n - 2, wait=0.4, worker=f"web-{n % 2 + 1}:47{n % 4}1:a3f{n % 4}",
            result=b'{"sent":true,"message_id":"20261122.7731@shop.example"}', args=b"[7731]",
            kwargs=b'{"language":"de","token":"s3cret"}', queue=("default", "mail")[n % 2],
        )
        for n in range(40)
    ]  # fmt: skip
    record(
        *good,
        *[
            failure((0, 1, 0, 2, 0, 1, 0)[n % 7], now - 300 * n - 20, queue=("mail", "default")[n % 2])
            for n in range(24)
        ],
    )


def history(scene: Scene) -> None:
    """An hour with its ups and downs, and ten minutes of trouble with one task."""
    for minute in range(60):
        swing = 1 + math.sin(minute / 7) / 2
        fields: dict[str, Any] = {}
        total: Counter[str] = Counter()
        for number, name in enumerate(TASKS):
            bad = 2 + minute % 3 if number == 1 and 22 < minute < 33 else int(minute % 11 == number)
            good = int(48 * swing / (number + 1))
            queue = ("mail", "default")[number % 2]
            counters = Counter({"s": good, "f": bad})
            for letter, middle in (("w", 0.03 * swing * swing), ("r", 0.05 + 0.11 * number)):
                for factor, share in ((0.6, 0.3), (1, 0.4), (1.7, 0.22), (2.6, 0.06), (5, 0.02)):
                    counters[f"{letter}{bucket_of(middle * factor)}"] += max(1, int(good * share))
            total += counters
            fields[f"t:{queue}:{name}"] = msgspec.msgpack.encode(dict(counters))
            fields["e:" + queue] = fields.get("e:" + queue, 0) + good + bad
        fields["all"] = msgspec.msgpack.encode(dict(total))
        flat = [part for pair in fields.items() for part in pair]
        scene.shard.redis("HSET", f"{scene.broker.keys.stats_prefix}{scene.minute - minute}", *flat)
        scene.depth(int(30 + 25 * math.sin(minute / 9)), "default", minutes_ago=minute)
        scene.depth(max(0, int(60 * math.sin(minute / 14))), "mail", minutes_ago=minute)


def live(scene: Scene, sights: Sights) -> None:
    """Workers, and what waits and runs."""
    versions = {"version": "0.1.0", "python": "3.12.1", "django": "5.2.3", "async": 64}
    first = scene.worker("web-1:4711:a3f0", settled=18234, **versions)
    second = scene.worker("web-1:4712:a3f1", settled=17960, pid=4712, state="quiet", **versions)
    third = scene.worker("web-2:1208:a3f2", settled=950, host="web-2", pid=1208, **versions)
    sights.alive, sights.silent = [first, second], [third]
    sights.running = scene.run(first, Progress(30, 100, "resizing"), task=TASKS[1])
    values = {"task": TASKS[0], "args": b"[7731]", "kwargs": b'{"language":"de"}'}
    limits(scene, first)
    sights.waiting = id_to_str(scene.shard.seed_waiting(12, queue="mail", **values)[0])
    scene.shard.seed_waiting(7, **{**values, "task": TASKS[2]})
    scene.shard.seed_scheduled(4, **{**values, "task": TASKS[3]})
    Inspector(scene.broker).pause("mail")
    sights.beat()


def limits(scene: Scene, hand: Hand) -> None:
    """Some accounts are synchronised one call at a time, the CRM is down, the bank was, and a task is paused."""
    for account, calls in (("4711", 9), ("1208", 2), ("accounting@wholesale.example", 1)):
        scene.limited(hand, f"task:{TASKS[3]}:{account}", calls, task=TASKS[3])
    Inspector(scene.broker).pause_task(TASKS[2])
    scene.shard.seed_waiting(3, task=TASKS[2])
    hand.claim(3)
    scene.fail_breaker("crm.example/orders", cooldown=3_600)
    scene.fail_breaker("bank", failures=5)


def fill(scene: Scene, user: User) -> Sights:
    """All of it."""
    sights = Sights(scene)
    history(scene)
    records(scene.broker.time())
    live(scene, sights)
    token, _text = tokens.create(user, "deployment")
    dead = DeadTask.objects.order_by("-failed_at")[0]
    sights.dead = dead.pk
    result = TaskResult.objects.filter(status="succeeded").order_by("-finished_at")[0]
    changed = periodic(result)
    sights.urls = [
        "/admin/",
        *empty_pages(),
        f"{OVERVIEW}?span=24h",
        f"{QUEUES}mail/change/",
        f"{QUEUES}default/change/?scheduled=1",
        f"{QUEUES}default/change/?blocked=1",
        task_page(result.pk),
        task_page(sights.running),
        task_page(sights.waiting),
        f"{DEAD}{dead.pk}/change/",
        f"{DEAD}{dead.pk}/edit/",
        f"{DEAD}?fingerprint={dead.fingerprint}",
        f"{TOKENS}{token.pk}/change/",
        f"{PERIODIC}{changed.pk}/change/",
        PERIODIC,
    ]
    return sights


def periodic(result: TaskResult) -> PeriodicTask:
    """Periodic tasks in every state; the one that sent a task of which there is a result, and that was changed here."""
    common = {"task": result.task, "timezone": "Europe/Berlin"}
    now = timezone.now()
    PeriodicTask.objects.create(name="shop.tasks.sync_stock", every=timedelta(minutes=5), enabled=False, **common)
    PeriodicTask.objects.create(name="shop.tasks.gone", cron="0 7 1 * *", removed_at=now, declared="{}", **common)
    PeriodicTask.objects.create(name="every night", cron="0 3 * * *", since=now - timedelta(days=2), **common)
    return PeriodicTask.objects.create(
        name=result.task, cron="30 6 * * MON-FRI", last_task=result.pk, changed=True, declared="{}", **common
    )


def empty_pages() -> list[str]:
    """Every page that is there when nothing else is."""
    return [
        OVERVIEW, QUEUES, WORKERS, TYPES, LIMITS, RESULTS, DEAD, f"{QUEUES}default/change/", f"{QUEUES}default/purge/",
        f"{DEAD}bulk/requeue/", f"{DEAD}bulk/discard/", TOKENS, f"{TOKENS}add/", PERIODIC, f"{PERIODIC}add/",
    ]  # fmt: skip


def task_page(id: uuid.UUID | str) -> str:
    return f"{RESULTS}{id}/change/"
