"""Runs calls here and now, with what a worker runs them with: codec, middleware, signals, retries, the same ends.

What it leaves out is what needs other processes or other tasks: time limits, waiting for a retry, limits.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from asgiref.sync import async_to_sync

from django_taskq import registry
from django_taskq.broker import scripts
from django_taskq.broker.delivery import Delivery, Lane, Settlement
from django_taskq.broker.keys import Keys
from django_taskq.conf import Settings
from django_taskq.context import TaskContext, current_context
from django_taskq.core.message import Message
from django_taskq.core.outcome import decode_outcome
from django_taskq.core.progress import Progress
from django_taskq.core.states import State
from django_taskq.middleware import Call, call_chain
from django_taskq.testing.calls import LocalCall, now_ms
from django_taskq.worker.batches import Batch, settlements_of
from django_taskq.worker.clock import Clock
from django_taskq.worker.executor import Executor
from django_taskq.worker.loop import await_task
from django_taskq.worker.pools import call_task
from django_taskq.worker.work import Work


class _Here:
    """The place that an attempt's context sees."""

    def __init__(self, worker: str) -> None:
        self.worker = worker

    def report(self, context: TaskContext, progress: Progress) -> None:
        """Nobody looks while it runs."""


class Inline:
    """Runs calls in the thread that asks for it."""

    def __init__(self, settings: Settings) -> None:
        self._executor = Executor(settings.mode, Keys(settings.namespace), settings, Clock())
        self._place = _Here(settings.mode)

    @cached_property
    def _chain(self) -> Call:
        return call_chain(call_task)

    @cached_property
    def _async_chain(self) -> Call:
        return call_chain(await_task)

    def run(self, calls: Sequence[LocalCall]) -> None:
        """Runs calls, those of one batch or a single one, to their ends; attempts follow each other at once.

        What is put off without an attempt (a task that is not registered here, an open circuit breaker) waits, as at a
        worker.
        """
        left = list(calls)
        while left:
            for call in left:
                call.state = State.RUNNING
            before = {call.id: call.message.attempt for call in left}
            batch = [(call, _delivery(call)) for call in left]
            self._attempt([delivery for _, delivery in batch], {delivery: call for call, delivery in batch})
            left = [call for call in left if call.waits and call.message.attempt > before[call.id]]

    def _attempt(self, deliveries: list[Delivery], calls: dict[Delivery, LocalCall]) -> None:

        def settle(settlement: Settlement) -> None:
            _settle(settlement, calls[settlement.delivery])

        delivery: Delivery = deliveries[0]
        if len(deliveries) > 1 or _is_batch(delivery):
            delivery = Batch(deliveries, time.monotonic(), settle, lambda: None)
        work = self._executor.prepare(delivery)
        if not isinstance(work, Work):
            for settlement in settlements_of(work):
                settle(settlement)
            return
        work.context.place = self._place
        result, error = None, None
        try:
            result = self._call(work)
        except (KeyboardInterrupt, GeneratorExit):
            raise  # they are not the task's
        except BaseException as raised:  # noqa: BLE001 - whatever a task raises is its failure
            error = raised
        for each in deliveries:
            calls[each].error = error
        for settlement in settlements_of(self._executor.concluded(work, result, error)):
            settle(settlement)

    def _call(self, work: Work) -> Any:
        token = current_context.set(work.context)
        try:
            if work.task.is_async:
                return _wait_for(self._async_chain, work.context, work.args, work.kwargs)
            return self._chain(work.context, work.args, work.kwargs)
        finally:
            current_context.reset(token)


def _delivery(call: LocalCall) -> Delivery:
    place = call.submission.place
    fields = [part if isinstance(part, bytes) else part.encode() for part in call.message.fields()]
    lane = Lane(f"{place.queue}:{place.priority}", b"here", place.queue, place.priority, place.share)
    return Delivery(lane, call.entry, fields, 0, False, time.monotonic())


def _is_batch(delivery: Delivery) -> bool:
    task = registry.find(Message.decode(delivery.fields).task)
    return task is not None and task.batching is not None


def _settle(settlement: Settlement, call: LocalCall) -> None:
    """What the scripts do in Redis."""
    if settlement.script is scripts.RETRY:
        fields = settlement.arguments[4:]
        call.message = Message.decode([part if isinstance(part, bytes) else str(part).encode() for part in fields])
        call.state, call.due = State.SCHEDULED, now_ms() + settlement.arguments[1]
    else:
        outcome = decode_outcome(settlement.arguments[2])
        call.end(State(outcome.status), outcome)
    if settlement.then is not None:
        settlement.then()


def _wait_for(call: Call, *arguments: Any) -> Any:
    """The result of a coroutine function, from anywhere: on a thread of its own where this one has a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return async_to_sync(call)(*arguments)
    with ThreadPoolExecutor(1, "taskq-eager") as thread:
        return thread.submit(contextvars.copy_context().run, async_to_sync(call), *arguments).result()
