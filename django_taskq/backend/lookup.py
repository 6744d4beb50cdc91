"""Where a task is and what is known of it, for results of `django.tasks`. It imports models as results.py does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django_taskq.backend import results
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.clock import epoch_seconds
from django_taskq.conf import get_settings
from django_taskq.core.ids import id_from_str
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.worker.clock import Clock

if TYPE_CHECKING:
    from django_taskq.backend.adapted import AdaptedTask

TRUSTED = 10.0  # seconds for which a clock is not compared with Redis'


def known(result_id: str) -> results.Known | None:
    """What Redis knows, the records once that has forgotten it, or the outbox; None where nobody knows the task."""
    from django_taskq import outbox
    from django_taskq.records import find_record

    try:
        id = id_from_str(result_id)
    except ValueError:
        return None
    found = get_broker().find([id])[0]
    if found.state is None:
        row = find_record(id)
        if row is not None:
            return results.of_record(row)
        waiting = outbox.find(id)
        # While we looked it may have gone from there to Redis.
        found = waiting.found if waiting is not None else get_broker().find([id])[0]
    if found.outcome is not None:
        return results.of_outcome(found.outcome) if found.outcome.recorded and found.outcome.task else None
    if found.message is None or found.state is None:
        return None
    task = results.of_message(found.message, found.queue, found.priority, found.state)
    if found.state is State.RUNNING:  # since a moment ago, perhaps: its worker starts what it is given
        task.start(found.worker, results.moment(redis_time() - found.held_for / 1000))
    return task


class _RedisClock:
    """Redis' clock, as this process knows it: asked for now and then."""

    def __init__(self) -> None:
        self.clock, self.until = Clock(), 0.0
        self.broker: Broker | None = None


_clock = _RedisClock()


def redis_time(*, ask: bool = True) -> float:
    """Now on Redis' clock, in epoch seconds; on this machine's when Redis has not been reached yet.

    `ask=False` for whoever must not wait for a Redis that is away: what is known already has to do.
    """
    if get_settings().is_local:
        return time.time()
    broker, sent = get_broker(), time.monotonic()
    if ask and (_clock.broker is not broker or sent >= _clock.until):
        _clock.broker, _clock.until = broker, sent + TRUSTED
        try:
            reply = broker.connections.execute("TIME")
        except BrokerUnavailable:
            return _clock.clock.now()
        received = time.monotonic()
        _clock.clock.set(epoch_seconds(reply), received, received)  # rather too early than too late
    return _clock.clock.now()


def sender_of(task: AdaptedTask, alias: str) -> type[object]:
    """The class that signals have as their sender: that of the backend."""
    backends = task.framework.backends
    return type(backends[alias if alias in backends.settings else task.alias])
