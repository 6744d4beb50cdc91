"""Producers: many kinds of calls, a book of what was promised for each, and the ends that each may come to.

`python -m tests.chaos.load DIRECTORY SEED CALLS SECONDS FIRST` is a producer in a process of its own, to be killed.
`python -m tests.chaos.load DIRECTORY requeue` requeues every dead letter that waits.
"""

from __future__ import annotations

import heapq
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django_taskq import TaskHandle
from django_taskq.exceptions import BrokerFull, BrokerUnavailable, QueueFull, TaskNotFound
from tests.chaos import ledger, tasks

OK = frozenset({"succeeded"})
MIX = {
    "quick": 38, "works": 16, "waits": 14, "stumbles": 7, "fails": 4, "gives_up": 3, "later": 6, "urgent": 4,
    "bulk": 4, "burst": 1, "keyed": 3, "cancelled": 3, "expires": 1, "overruns": 1, "unrecorded": 2,
    "gathered": 8, "limited": 8, "rated": 3, "fair": 5, "guarded": 5, "halted": 3, "displaced": 4,
}  # fmt: skip


def _later(number: int, chance: random.Random) -> Any:
    return tasks.quick.using(run_after=chance.uniform(0.2, 1.2)).delay(number)


def _cancelled(number: int, chance: random.Random) -> Any:
    if chance.random() < 0.5:
        return tasks.waits.delay(number, 0.6)
    return tasks.works.using(run_after=chance.choice([0.0, 0.3])).delay(number, 0.2)


def _displaced(number: int, chance: random.Random) -> Any:
    return tasks.moves.using(queue_name="narrow", run_after=chance.choice([0.0, 0.6])).delay(number)


@dataclass(frozen=True)
class Kind:
    """How a call is made, how it may end, and after how many attempts. A loss is no attempt.

    `plain`: it is due at once and runs once, if nothing happens.
    """

    send: Callable[[int, random.Random], Any]
    ends: frozenset[str] = OK
    attempts: frozenset[int] = frozenset({1})
    plain: bool = False
    reasons: frozenset[str] = frozenset({"failed", "timeout", "hard_timeout"})  # of a failure


KINDS = {
    "quick": Kind(lambda number, _: tasks.quick.delay(number), plain=True),
    "works": Kind(lambda number, chance: tasks.works.delay(number, chance.uniform(0.05, 0.3)), plain=True),
    "waits": Kind(lambda number, chance: tasks.waits.delay(number, chance.uniform(0.05, 0.3)), plain=True),
    "long": Kind(lambda number, _: tasks.works.delay(number, 3.0), plain=True),
    "stumbles": Kind(
        lambda number, chance: tasks.stumbles.delay(number, chance.randint(1, 2)), attempts=frozenset({2, 3})
    ),
    "fails": Kind(lambda number, _: tasks.fails.delay(number), frozenset({"failed"}), frozenset({2})),
    "fails_once": Kind(lambda number, _: tasks.fails_once.delay(number), OK | {"failed"}),
    "gives_up": Kind(lambda number, _: tasks.gives_up.delay(number), frozenset({"discarded"})),
    "later": Kind(_later),
    "urgent": Kind(
        lambda number, chance: tasks.quick.using(priority=chance.choice([-50, 10, 100])).delay(number), plain=True
    ),
    "bulk": Kind(lambda number, _: tasks.quick.using(queue_name="bulk").delay(number), plain=True),
    "overruns": Kind(
        lambda number, chance: chance.choice([tasks.overruns, tasks.overruns_async]).delay(number),
        frozenset({"failed"}),
        frozenset({1, 2}),
    ),
    "unrecorded": Kind(lambda number, _: tasks.quick.using(record="failures").delay(number), plain=True),
    "burst": Kind(lambda number, _: tasks.quick.delay_many([((number,), {})]), plain=True),
    "keyed": Kind(lambda number, _: tasks.quick.using(idempotency_key=f"key-{number}").delay(number)),
    "cancelled": Kind(_cancelled, OK | {"cancelled"}),
    "expires": Kind(lambda number, _: tasks.quick.using(expires=0.05).delay(number), OK | {"expired"}),
    "gathered": Kind(lambda number, _: tasks.gathered.delay(number), attempts=frozenset({1, 2})),
    "limited": Kind(lambda number, chance: tasks.synchronises.delay(number, number % 2, chance.uniform(0.1, 0.5))),
    "rated": Kind(lambda number, _: tasks.newsletter.delay(number, number % tasks.LISTS)),
    "fair": Kind(lambda number, _: tasks.of_a_tenant.delay(number, number % 5)),
    "guarded": Kind(lambda number, _: tasks.calls_out.delay(number), attempts=frozenset(range(1, 101))),
    "halted": Kind(lambda number, _: tasks.charges.delay(number)),
    "displaced": Kind(_displaced, OK | {"failed"}, frozenset({0, 1}), reasons=frozenset({"dropped"})),
    "hogs": Kind(lambda number, _: tasks.hogs.delay(number), plain=True),
    "grows": Kind(lambda number, _: tasks.grows.delay(number), plain=True),
    "crashes": Kind(
        lambda number, chance: tasks.crashes.delay(number, chance.choice(["exit", "segfault", "kill"])), plain=True
    ),
}
BURST = 10


@dataclass
class Load:
    """`calls` calls in `seconds`, evenly, numbered from `first`; slower where Redis is. `run()` may be a thread."""

    books: ledger.Books
    seed: int
    calls: int
    seconds: float
    mix: dict[str, float] = field(default_factory=lambda: MIX)
    first: int = 0
    stopping: bool = False
    progress: float = 0.0  # the part that was sent
    error: BaseException | None = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run_and_tell, name="chaos-load", daemon=True)
        thread.start()
        return thread

    def _run_and_tell(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.error = error

    def run(self) -> None:
        chance = random.Random(self.seed)
        names, weights = list(self.mix), list(self.mix.values())
        self._to_cancel: list[tuple[float, int, TaskHandle[Any]]] = []
        number, began = self.first, time.monotonic()
        while number < self.first + self.calls and not self.stopping:
            self.progress = (number - self.first) / self.calls
            self._cancel_due(time.monotonic())
            time.sleep(max(0.0, began + (number - self.first) * self.seconds / self.calls - time.monotonic()))
            kind = chance.choices(names, weights)[0]
            if kind == "burst":
                self._burst(list(range(number, number + BURST)))
                number += BURST
                continue
            handle = self.send(kind, number, chance)
            if handle is not None and kind == "cancelled":
                heapq.heappush(self._to_cancel, (time.monotonic() + chance.uniform(0.0, 0.4), number, handle))
            if handle is not None and kind == "keyed":
                self.send(kind, number, chance, "again")
            number += 1
        while self._to_cancel:
            time.sleep(max(0.0, self._to_cancel[0][0] - time.monotonic()))
            self._cancel_due(time.monotonic())

    def send(self, kind: str, number: int, chance: random.Random, word: str = "accepted") -> TaskHandle[Any] | None:
        self._note("tries", number, kind)
        try:
            handle: TaskHandle[Any] = KINDS[kind].send(number, chance)
        except (BrokerFull, QueueFull):
            return self._note("refused", number, kind)
        except BrokerUnavailable as error:
            return self._note("unknown", number, kind, id=error.id)
        self._note(word, number, kind, id=handle.id, created=handle.created)
        return handle

    def _burst(self, numbers: list[int]) -> None:
        for number in numbers:
            self._note("tries", number, "burst")
        try:
            handles = tasks.quick.delay_many([((number,), {}) for number in numbers])
        except BrokerUnavailable as error:
            for number in numbers:
                self._note("refused" if isinstance(error, BrokerFull) else "unknown", number, "burst")
            return
        for number, handle in zip(numbers, handles, strict=True):
            self._note("accepted", number, "burst", id=handle.id, created=handle.created)

    def _cancel_due(self, now: float) -> None:
        while self._to_cancel and self._to_cancel[0][0] <= now:
            _, number, handle = heapq.heappop(self._to_cancel)
            answer: bool | str | None = None
            try:
                answer = handle.cancel()
            except TaskNotFound:
                answer = "not found"
            except BrokerUnavailable:
                answer = None
            self._note("cancels", number, "cancelled", id=handle.id, answer=answer)

    def _note(self, what: str, number: int, kind: str, **more: Any) -> None:
        ledger.append(self.books.sent, what=what, number=number, kind=kind, **more)


def requeue_all() -> None:
    from django_taskq.models import DeadTask
    from django_taskq.requeue import requeue

    for dead in DeadTask.objects.filter(task="tests.chaos.tasks.fails_once", state=DeadTask.State.DEAD):
        requeue(dead)


if __name__ == "__main__":
    import django

    django.setup()
    from tests.chaos import load  # the module that tasks know, not this one

    if sys.argv[2] == "requeue":
        load.requeue_all()
    else:
        _directory, _seed, _calls, _seconds, _first = sys.argv[1:]
        load.Load(ledger.Books(Path(_directory)), int(_seed), int(_calls), float(_seconds), first=int(_first)).run()
