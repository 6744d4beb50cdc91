"""The parts of a task process, in this process: real tasks, real deliveries, no Redis where none is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from django_taskq import Task
from django_taskq.broker import Broker
from django_taskq.broker.deliveries import Deliveries
from django_taskq.broker.delivery import Delivery, Lane, Settlement
from django_taskq.broker.keys import Keys
from django_taskq.broker.workers import Workers, new_worker_id
from django_taskq.conf import get_settings
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, decode_outcome
from django_taskq.worker.claimer import Claimer
from django_taskq.worker.clock import Clock
from django_taskq.worker.distributor import Distributor
from django_taskq.worker.executor import Executor
from django_taskq.worker.held import Held
from django_taskq.worker.loop import LoopPool
from django_taskq.worker.notes import Notes
from django_taskq.worker.pools import ThreadPool
from django_taskq.worker.settler import Settler

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

    def put(self, settlement: Settlement | list[Settlement]) -> None:
        with self.arrived:
            self.settlements += settlement if isinstance(settlement, list) else [settlement]
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


class Crew:
    """The threads of a task process without its supervisor, on a real Redis. `with` starts and stops them."""

    def __init__(self, broker: Broker, *, threads: int = 2, coroutines: int = 10, queues: Sequence[str] = ("default",)):
        self.worker = new_worker_id()
        self.broker, self.held, room, clock = broker, Held(), threading.Event(), Clock()
        self.register = Workers(broker.connections, broker.keys)
        deliveries = Deliveries(broker.keys, self.worker, queues, ordered=False, max_outcomes=1_000_000)
        self.settler = Settler(broker.connections, deliveries, self.held)
        executor, notes = Executor(self.worker, broker.keys, get_settings(), clock), Notes(2 * threads + coroutines)
        self.threads = ThreadPool(threads, executor, notes, self.settler.put, room)
        self.loop = LoopPool(coroutines, executor, notes, 2 * threads, self.settler.put, room)
        self.distributor = Distributor(self.threads, self.loop, self.settler.put)
        self.claimer = Claimer(
            broker.connections, deliveries, self.held, self.distributor, clock, room,
            register=lambda: self.register.register(self.worker, {}),
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.claimer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.claimer.stop()
        self.end()

    def end(self, patience: float = 2.0) -> None:
        """Settles for so many seconds more and ends the threads."""
        self.settler.stop(patience)
        end(self.threads)
