"""The parts of a task process, in this process: real tasks, real deliveries, no Redis where none is needed."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec

from django_taskq import Task
from django_taskq.broker.deliveries import Delivery, Lane, Settlement
from django_taskq.broker.keys import Keys
from django_taskq.conf import get_settings
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, decode_outcome
from django_taskq.worker.clock import Clock
from django_taskq.worker.executor import Executor
from django_taskq.worker.notes import Notes
from django_taskq.worker.pools import ThreadPool

KEYS = Keys("taskq")
LANE = Lane(KEYS.lane("default", 0), b"default:0", "default", 0)
_numbers = iter(range(1, 1_000_000_000))


def delivery_of(task: Task[..., Any], *args: Any, losses: int = 0, cancelled: bool = False, **fields: Any) -> Delivery:
    """A call of a task as a claim hands it out; `fields` are those of Message."""
    message = Message(new_id(), task.name, msgspec.json.encode(args), **fields)
    return delivery_with(message.fields(), losses=losses, cancelled=cancelled)


def delivery_with(fields: list[bytes | str], *, losses: int = 0, cancelled: bool = False) -> Delivery:
    values = [field.encode() if isinstance(field, str) else field for field in fields]
    entry = b"%d-%d" % (int(time.time() * 1000), next(_numbers))
    return Delivery(LANE, entry, values, losses, cancelled, time.monotonic())


def new_executor() -> Executor:
    return Executor("host-1-test", KEYS, get_settings(), Clock())


class Desk:
    """Where settlements arrive."""

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.arrived = threading.Condition()

    def put(self, settlement: Settlement) -> None:
        with self.arrived:
            self.settlements.append(settlement)
            self.arrived.notify()

    def wait(self, count: int, timeout: float = 20) -> list[Settlement]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.settlements) >= count, timeout), len(self.settlements)
            return list(self.settlements)


def new_pool(desk: Desk, size: int = 2) -> ThreadPool:
    return ThreadPool(size, new_executor(), Notes(2 * size), desk.put, threading.Event())


def end(pool: ThreadPool) -> None:
    """Ends the threads that wait."""
    for _ in pool.slots:
        pool.ready.put(None)


def outcome_in(settlement: Settlement) -> Outcome:
    """The outcome of a `complete` or `bury`."""
    return decode_outcome(settlement.arguments[2])


def kind_of(settlement: Settlement) -> str:
    """retry, release, or the state it ends in."""
    return outcome_in(settlement).status if settlement.script.name in {"complete", "bury"} else settlement.script.name
