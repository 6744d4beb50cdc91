"""Batches on their way through the pools: to those one delivery, to everybody else the calls it is made of.

Each call is prepared, concluded and settled by itself, as if it had been run alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from django_taskq.batch import ITEM, BatchCall, BatchContext, ends_of
from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.exceptions import InvalidBatchResult
from django_taskq.worker.work import Work

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor


class Batch(Delivery):
    """Deliveries that one call of a function runs. Its location names them all, a line each."""

    __slots__ = ("_taken", "deliveries", "settle", "waits")

    def __init__(
        self, deliveries: Sequence[Delivery], formed: float, settle: Callable[[Settlement], None],
        taken: Callable[[], None],
    ) -> None:  # fmt: skip
        """`formed`: monotonic seconds. `taken` is called when the batch waits for a place no longer."""
        first = deliveries[0]
        super().__init__(first.lane, first.entry, [], 0, False, formed)
        self.location = b"\n".join(delivery.location for delivery in deliveries)
        self.deliveries, self.settle, self._taken = deliveries, settle, taken
        self.waits = True

    def leave(self) -> None:
        """A place takes it, or it goes to other workers."""
        self.waits = False
        self._taken()


class BatchWork(Work):
    """A batch that is ready to run: with the shortest limits of its calls, in the context of the first."""

    __slots__ = ("calls", "works")

    def __init__(self, batch: Batch, works: Sequence[Work], started: float) -> None:
        first = works[0]
        self.delivery, self.message, self.task, self.started = batch, first.message, first.task, started
        self.sealed = first.sealed
        self.timeout = _shortest(work.timeout for work in works)
        self.hard_timeout = _shortest(work.hard_timeout for work in works)
        deadline = None if self.timeout is None else started + self.timeout
        for work in works:
            work.context.deadline = deadline
        self.works = works
        self.calls = [BatchCall(work.args[0] if work.args else work.kwargs[ITEM], work.context) for work in works]
        self.context = context = BatchContext(
            first.message, first.task, first.delivery.lane.queue, deadline, first.context.max_retries
        )
        context.calls = self.calls
        self.args, self.kwargs = (list(self.calls),), {}  # the function may do with its list what it likes


def prepare_batch(executor: Executor, batch: Batch) -> BatchWork | list[Settlement]:
    """What of a batch is to run; what ends without a run is settled at once. An empty list: nothing runs."""
    batch.leave()
    started = time.monotonic()
    works = []
    for delivery in batch.deliveries:
        work = executor.prepare(delivery)
        if isinstance(work, Work):
            works.append(work)
        else:
            for settlement in settlements_of(work):
                batch.settle(settlement)
    return BatchWork(batch, works, started) if works else []


def conclude_batch(
    executor: Executor, work: BatchWork, result: object, error: BaseException | None
) -> list[Settlement]:
    """How each call ends."""
    settlements: list[Settlement] = []
    if work.context.log is not None:
        work.context.log.share(len(work.works))
    for each, (own_result, own_error) in zip(work.works, ends_of(work.calls, result, error), strict=True):
        each.context.place, each.context.log = work.context.place, work.context.log  # of them all
        if isinstance(own_error, InvalidBatchResult):  # another attempt would do the same work and return the same
            settlements.append(executor.refused(each, own_error))
        else:
            settlements += settlements_of(executor.concluded(each, own_result, own_error))
    return settlements


def deliveries_of(delivery: Delivery) -> Iterator[Delivery]:
    """A delivery; those of a batch."""
    if isinstance(delivery, Batch):
        yield from delivery.deliveries
    else:
        yield delivery


def settlements_of(end: Settlement | list[Settlement]) -> list[Settlement]:
    """One, or those of a batch, as a list."""
    return end if isinstance(end, list) else [end]


def _shortest(limits: Iterable[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
