"""Looks after limits: declares what they are, and heals them.

What waits was sent or parked under numbers that a deployment may have changed: the worker that started last declares
what holds now. Scripts give places back by themselves; healing is for what they cannot know: keys that somebody deleted
or restored. A place that nothing holds any more is freed, and who was forgotten on a waiting list goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from django_taskq.broker.declarations import Declarations
from django_taskq.broker.gates import Gates
from django_taskq.core.gates import REFUSE, declared_numbers, limit_name
from django_taskq.exceptions import TaskqError
from django_taskq.registry import all_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_taskq.broker import Broker
    from django_taskq.queue_options import QueueOptions

logger = logging.getLogger("django_taskq.worker")

EVERY = 3.0  # seconds
MOST_WENT_ON = 1000  # in a call of sweep.lua
STARTED = time.monotonic()  # when the supervisor did, from which the maintenance process is forked, perhaps later


class LimitSweeper:
    """Every worker's maintenance process does it: what is whole stays as it is."""

    def __init__(self, broker: Broker, queues: Mapping[str, QueueOptions], started: float = STARTED) -> None:
        self._gates, self._queues, self._started = Gates(broker.connections, broker.keys), queues, started
        self._declarations = Declarations(broker.connections, broker.keys)
        self._numbers: dict[str, str] | None = None  # once they are declared

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        pause = 0.0
        while not stop.wait(pause):
            pause = EVERY
            try:
                if self.run_once():
                    pause = 0.0
            except TaskqError as error:
                logger.debug("limits: %s", error)

    def run_once(self) -> bool:
        """Declares and sweeps. Returns whether more of those who are parked may go on than a sweep lets."""
        queues, changed = list(self._queues), self._declare()
        replanned = self._declarations.replan(queues)
        swept = self._gates.sweep(queues)
        if changed or replanned:
            logger.info(
                "limits: %d numbers have changed, %d parked tasks go on, %d are planned anew",
                changed, swept.went_on, replanned,
            )  # fmt: skip
        elif swept.freed or swept.went_on:
            logger.warning(
                "limits: %d places were held by tasks that are nowhere, %d parked tasks go on",
                swept.freed,
                swept.went_on,
            )
        return swept.went_on >= MOST_WENT_ON

    def _declare(self) -> int:
        """All there is, and from then on what somebody has deleted. How many numbers have changed."""
        known = self._declarations.known()
        numbers = numbers_of(self._queues, known) if self._numbers is None else self._numbers
        new = {field: text for field, text in numbers.items() if self._numbers is None or field not in known}
        changed = self._declarations.declare(new, time.monotonic() - self._started)
        self._numbers = numbers
        return changed


def numbers_of(queues: Mapping[str, QueueOptions], known: Mapping[str, str]) -> dict[str, str]:
    """What settings and code say of each limit there is, or was when somebody declared it."""
    numbers: dict[str, str] = {}
    for queue, of in queues.items():
        numbers |= declared_numbers(f"queue:{queue}", of.max_concurrency, of.rate_limit, 1)
    for task in all_tasks():
        rate = None if task.rate_limit_mode == REFUSE else task.rate_limit
        numbers |= declared_numbers(limit_name(task.name), task.max_concurrency, rate, task.rate_limit_burst or 1)
    return {field: text for field, text in numbers.items() if field in known or text.strip("0 ")}
