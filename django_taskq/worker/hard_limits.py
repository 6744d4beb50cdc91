"""A hard time limit ends with the death of the process; the supervisor settles the attempt in its name.

It is a failed attempt like a soft time limit, not a lost worker, and its neighbours are not held to account.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import redis

from django_taskq import registry
from django_taskq.broker.connection import run_scripts
from django_taskq.broker.deliveries import Deliveries
from django_taskq.broker.delivery import Delivery, Settlement, refusals
from django_taskq.broker.errors import typed
from django_taskq.conf import get_settings
from django_taskq.core.message import Message
from django_taskq.exceptions import HardTimeout, MalformedMessage
from django_taskq.middleware import enter_supervisor
from django_taskq.worker.batches import settlements_of
from django_taskq.worker.clock import Clock
from django_taskq.worker.executor import Executor
from django_taskq.worker.sealing import adopt
from django_taskq.worker.work import Work

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.worker.notes import Note
    from django_taskq.worker.tally import Tally


def settle_killed(
    broker: Broker, worker: str, over_limit: Sequence[Note], beside: Sequence[Note], tally: Tally
) -> None:
    """Settles what a killed process was running over its hard limit, and hands on what had started beside it.

    Safe to repeat. Raises TaskqError.
    """
    enter_supervisor()
    clock = Clock()
    sent = time.monotonic()
    clock.set(broker.time(), sent, time.monotonic())
    offset = time.time() - time.monotonic()  # of the clock that the notes were taken with
    deliveries = Deliveries(broker.keys, worker, (), ordered=True, max_outcomes=0)
    executor = Executor(worker, broker.keys, get_settings(), clock)
    connection = broker.connections.open()
    try:
        settlements: list[Settlement] = []
        for note in (*over_limit, *beside):
            delivery = deliveries.find(connection, note.location, sent)
            if delivery is None:
                continue
            work = _work(delivery, note.started - offset)
            if work is not None:
                killed = note in over_limit
                ended = executor.concluded(work, None, HardTimeout()) if killed else executor.handed_on(work)
                settlements += settlements_of(ended)
        for call, batch in deliveries.settle_calls(settlements):
            reply = run_scripts(connection, [call])[0]
            if isinstance(reply, Exception):
                raise typed(reply, broker.connections.location.display)
            refused = refusals(batch[0], reply)
            stand = [settlement for position, settlement in enumerate(batch) if position not in refused]
            tally.settled(stand)
            for settlement in stand:
                if settlement.then is not None:
                    settlement.then()
    except (redis.exceptions.RedisError, OSError) as error:
        raise typed(error, broker.connections.location.display) from error
    finally:
        connection.disconnect()


def _work(delivery: Delivery, started: float) -> Work | None:
    """What the process was running: decoded as it did, without a second signal that it starts. None: nothing ran."""
    try:
        message = Message.decode(delivery.fields)
    except MalformedMessage:
        return None
    message.losses += delivery.losses
    task = registry.find(message.task)
    if task is None:
        return None
    work = Work(delivery, message, task, started)
    if work.sealed:
        adopt(work)
    return work
