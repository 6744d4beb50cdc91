"""The load test: times some tasks of an idle worker, sends many, waits until they have ended, counts, and cleans up."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import router
from django.db.models import QuerySet

from django_taskq.bench.ends import Ends
from django_taskq.bench.memory import bytes_per_task
from django_taskq.bench.report import Report
from django_taskq.bench.tasks import nothing
from django_taskq.broker import Broker
from django_taskq.broker.inspector import Inspector
from django_taskq.core.ids import id_from_str
from django_taskq.exceptions import TaskqError
from django_taskq.handle import TaskHandle
from django_taskq.models import DeadTask, TaskResult
from django_taskq.worker.clock import Clock

ANSWER = 10.0  # seconds in which a worker must take the first task
MOST_SAMPLES = 200
PAUSE = (0.02, 0.03)  # seconds between two timed tasks, at random: the worker is asleep again by then
MOST_SINGLE = 1_000  # tasks sent by delay()
CHUNK = 1_000  # calls of one delay_many()
LOOK_EVERY = 0.05  # seconds
RECORDER = 5.0  # seconds to wait for it when the load test was given up
DELETE = 500  # rows a transaction


class Bar(Protocol):
    """A progress bar."""

    def add(self, count: int = 1) -> None:
        """So many more are done."""

    def reach(self, done: int) -> None:
        """So many are done in all."""


Bars = Callable[[str, int], AbstractContextManager[Bar]]


class NoAnswer(TaskqError):
    """No worker took the first task."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. `patience`: seconds without a further end after which it is given up."""

    queue: str
    tasks: int
    payload: int  # bytes
    patience: float


class LoadTest:
    """`run` fills in `report`. Raises NoAnswer and what the broker and the database raise."""

    def __init__(self, broker: Broker, plan: Plan, workers: int, bars: Bars) -> None:
        self.broker, self.plan, self.bars = broker, plan, bars
        self.report = Report(plan.queue, plan.tasks, plan.payload, workers)
        self._call = nothing.using(queue_name=plan.queue)
        self._argument = "x" * plan.payload
        self._database = router.db_for_write(TaskResult)
        self._timed, self._ends = Ends(broker), Ends(broker)
        self._began = self._began_at = 0.0  # monotonic, and on Redis' clock

    def run(self) -> Report:
        """From the first task to the last; what it left is removed, however it ends."""
        self._delete_rows()  # of a load test that was killed
        try:
            self._measure_memory()
            self._measure_latency()
            self._send()
            self._drain()
            self._wait_for_rows()
        finally:
            self._clean_up()
        return self.report

    def _measure_memory(self) -> None:
        args, _ = nothing.codec.encode((self._argument,), {})
        self.report.bytes_per_task = bytes_per_task(self.broker, self.plan.queue, args, self.plan.tasks)

    def _measure_latency(self) -> None:
        """From the call of delay() to the moment in which a worker takes the task up, both on Redis' clock."""
        samples = max(1, min(MOST_SAMPLES, self.plan.tasks // 20))
        clock, sent, call = self._clock(), {}, self._call.using(record="all")
        with self.bars("latency", samples) as bar:
            for number in range(samples):
                now = clock.now()
                id = id_from_str(call.delay(self._argument).id)
                sent[id] = now
                self._timed.expect([id], timed=True)
                bar.add()
                if not number:
                    self._first_answer()
                time.sleep(random.uniform(*PAUSE))
            self._until(lambda: self._timed.read() >= samples, lambda: self._timed.ended)
        started = self._timed.started
        self.report.latencies = sorted(at - sent[id] for id, at in started.items() if at is not None)

    def _clock(self) -> Clock:
        """Redis' clock as the quickest of some answers tells it."""
        best, clock = float("inf"), Clock()
        for _ in range(20):
            sent = time.monotonic()
            now = self.broker.time()
            received = time.monotonic()
            if received - sent < best:
                best = received - sent
                clock.set(now, sent, received)
        return clock

    def _first_answer(self) -> None:
        deadline = time.monotonic() + ANSWER
        while not self._timed.read():
            if time.monotonic() > deadline:
                raise NoAnswer(f"No worker took a task from the queue {self.plan.queue!r} within {ANSWER:.0f} s.")
            time.sleep(LOOK_EVERY)

    def _send(self) -> None:
        single = min(MOST_SINGLE, self.plan.tasks // 10)
        self._began, self._began_at = time.monotonic(), self.broker.time()
        with self.bars("sent", self.plan.tasks) as bar:
            self.report.delay_rate = self._timed_sending(self._by_delay(single), bar)
            self.report.delay_many_rate = self._timed_sending(self._by_delay_many(self.plan.tasks - single), bar)

    def _by_delay(self, count: int) -> Iterator[list[TaskHandle[None]]]:
        for _ in range(count):
            yield [self._call.delay(self._argument)]

    def _by_delay_many(self, count: int) -> Iterator[list[TaskHandle[None]]]:
        for start in range(0, count, CHUNK):
            yield self._call.delay_many([((self._argument,), {})] * min(CHUNK, count - start))

    def _timed_sending(self, batches: Iterator[list[TaskHandle[None]]], bar: Bar) -> float | None:
        """Tasks per second, without the time in which this process looks what has ended meanwhile."""
        count, seconds, look_at = 0, 0.0, 0.0
        while True:
            began = time.perf_counter()
            handles = next(batches, None)
            if handles is None:
                return count / seconds if seconds else None
            seconds += time.perf_counter() - began
            count += len(handles)
            self._ends.expect(id_from_str(handle.id) for handle in handles)
            bar.add(len(handles))
            if time.monotonic() > look_at:
                self._ends.read()
                look_at = time.monotonic() + LOOK_EVERY

    def _drain(self) -> None:
        report, ends = self.report, self._ends
        report.sent = len(ends.counts)
        with self.bars("ended", report.sent) as bar:

            def over() -> bool:
                bar.reach(ends.read())
                return ends.ended >= report.sent

            self._until(over, lambda: ends.ended)
        report.once, report.repeated = ends.ended - ends.repeated(), ends.repeated()
        report.unsuccessful, report.missing = ends.unsuccessful, self._states(ends.missing())
        if ends.ended:
            report.drain_rate = ends.ended / max(ends.last - self._began_at, 0.001)

    def _states(self, ids: Sequence[bytes]) -> Counter[str]:
        """What the broker says of tasks that have not ended as far as this process has seen."""
        states: Counter[str] = Counter()
        for start in range(0, len(ids), CHUNK):
            found = self.broker.find(ids[start : start + CHUNK])
            states.update(str(place.state) if place.state else "unknown to Redis" for place in found)
        return states

    def _wait_for_rows(self) -> None:
        """Until the recorder has written a row for every end that is recorded."""
        expected = self._timed.recorded + self._ends.recorded
        if not self._ends.recorded:
            return
        rows = TaskResult.objects.using(self._database).filter(task=nothing.name)
        with self.bars("recorded", expected) as bar:
            self.report.rows_expected, count = expected, 0

            def over() -> bool:
                nonlocal count
                count = rows.count()
                bar.reach(count)
                return count >= expected

            self._until(over, lambda: count, every=0.25)
        self.report.rows = count
        self.report.record_rate = count / (time.monotonic() - self._began)

    def _until(self, over: Callable[[], bool], progress: Callable[[], int], every: float = LOOK_EVERY) -> None:
        """Returns when it is over, or when there was no progress for as long as the plan allows."""
        before, deadline = -1, 0.0
        while not over():
            if progress() != before:
                before, deadline = progress(), time.monotonic() + self.plan.patience
            elif time.monotonic() > deadline:
                return
            time.sleep(every)

    def _clean_up(self) -> None:
        left = self._timed.missing() + self._ends.missing()
        if left:
            inspector = Inspector(self.broker)
            with self.bars("cancelled", len(left)) as bar:
                for start in range(0, len(left), DELETE):
                    batch = left[start : start + DELETE]
                    inspector.cancel(batch, "the load test was given up")
                    bar.add(len(batch))
            # Their rows are removed, too, if the recorder writes them soon. Otherwise the next load test does it.
            deadline = time.monotonic() + min(RECORDER, self.plan.patience)
            while self.broker.recorder_lag() and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY)
        self._delete_rows()

    def _delete_rows(self) -> None:
        """The records of this task, in small transactions."""
        for model in (TaskResult, DeadTask):
            rows: QuerySet[Any] = model._default_manager.using(self._database).filter(task=nothing.name)
            with self.bars("deleted", rows.count()) as bar:
                while keys := list(rows.order_by().values_list("pk", flat=True)[:DELETE]):
                    bar.add(rows.filter(pk__in=keys).delete()[0])
