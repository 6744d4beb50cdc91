"""What an operator wants to know: queues, workers, running tasks. Every look is bounded. No worker imports this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from django_taskq.broker import scripts
from django_taskq.broker.broker import Broker
from django_taskq.broker.connection import run_scripts
from django_taskq.broker.errors import typed
from django_taskq.broker.found import cancelled_outcome
from django_taskq.broker.gates import BreakerState, Gates
from django_taskq.broker.health import Health, health_of
from django_taskq.broker.listing import Page, QueuedMessage, ready_messages, waiting_messages
from django_taskq.broker.queues import QueueState, queue_states
from django_taskq.broker.worker_states import RunningTask, WorkerState, worker_states
from django_taskq.core.activity import activity
from django_taskq.core.fields import id_in
from django_taskq.core.outcome import encode_outcome
from django_taskq.core.progress import Progress

if TYPE_CHECKING:
    from django_taskq.broker.connection import Call

__all__ = ["Health", "Inspector", "Page", "Progress", "QueueState", "QueuedMessage", "RunningTask", "WorkerState"]

PURGE_BATCH, PURGE_BYTES = 500, 4_194_304  # of one round trip, at most and about
PURGE_FIRST = 32  # messages whose size is not known yet


class Inspector:
    """Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.connections, self.keys = broker, broker.connections, broker.keys
        self.gates = Gates(broker.connections, broker.keys)

    def queues(self, names: Iterable[str]) -> list[QueueState]:
        """The state of queues, in the order given; one round trip."""
        return queue_states(self.connections, self.keys, names)

    def workers(self) -> list[WorkerState]:
        """Every registered worker with what it is running; three round trips."""
        return worker_states(self.connections, self.keys)

    def control(self, worker: str, request: str) -> bool:
        """Asks a worker to be `quiet` (claim nothing more) or to `stop` (finish, and not be replaced).

        It gets the request with its next beat, within a second. False: it is unknown, or was declared dead.
        """
        if request not in {"quiet", "stop"}:
            raise ValueError(f"A worker can be asked to be quiet or to stop, not {request!r}.")
        names = (3, self.keys.index, self.keys.workers, self.keys.inbox(worker))
        return bool(self.connections.run(scripts.CONTROL, (*names, worker, request)))

    def messages(
        self, queue: str, *, scheduled: bool = False, blocked: bool = False, cursor: str = "", count: int = 100
    ) -> Page:
        """What waits in a queue or runs, or what is scheduled for it, or blocked; 100 at most.

        ValueError for a bad cursor.
        """
        if scheduled or blocked:
            name = self.keys.queue(queue).scheduled if scheduled else self.keys.parked(queue)
            return waiting_messages(self.broker, name, cursor, count)
        return ready_messages(self.broker, queue, cursor, count)

    def waiting_for(self, limit: str, *, cursor: str = "", count: int = 100) -> Page:
        """What waits for a limit, or for a paused task (`paused:<task>`); 100 at most. ValueError for a bad cursor."""
        return waiting_messages(self.broker, self.keys.waiting(limit), cursor, count)

    def health(self) -> Health:
        """What there is to say about the server; a few round trips."""
        return health_of(self.connections)

    def totals(self) -> dict[str, int]:
        """`<queue>:<state>` -> how many ended that way since the namespace exists."""
        flat = self.connections.execute("HGETALL", self.keys.totals)
        return {name.decode(): int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}

    def pause(self, queue: str) -> bool:
        """No worker claims from the queue any more; False when it was paused already."""
        return bool(self.connections.execute("SADD", self.keys.paused, queue))

    def resume(self, queue: str) -> bool:
        """Undoes `pause`; False when it was not paused."""
        of_queue = self.keys.queue(queue)
        names = (4, self.keys.paused, of_queue.lanes, of_queue.sleepers, of_queue.wake)
        return bool(self.connections.run(scripts.RESUME, (*names, queue)))

    def pause_task(self, task: str) -> bool:
        """No worker is given calls of that task any more; False when it was paused already."""
        return self.gates.pause(task)

    def resume_task(self, task: str) -> bool:
        """Undoes `pause_task`, 500 messages a round trip; False when it was not paused."""
        return self.gates.resume(task)

    def breakers(self) -> list[BreakerState]:
        """Circuit breakers that have failed lately; two round trips."""
        return self.gates.breakers()

    def paused_tasks(self) -> list[str]:
        """Their names."""
        return self.gates.paused()

    def purge(self, queue: str, reason: str = "purged", progress: Callable[[int], object] | None = None) -> int:
        """Cancels what waits in a queue, is scheduled for it or parked; what runs is left alone. Returns how many.

        Each becomes a recorded outcome like any cancelled task. In batches, so that it can be repeated; `progress` is
        told after each how many that were so far.
        """
        purged, size, tell = 0, PURGE_FIRST, progress or (lambda _: None)
        for lane in self.connections.execute("ZRANGE", self.keys.queue(queue).lanes, 0, -1):
            cursor = "-"
            while entries := self.connections.execute("XRANGE", lane, cursor, "+", "COUNT", size):
                purged += self.cancel([id_in(fields) for _, fields in entries], reason)
                tell(purged)
                cursor = f"({entries[-1][0].decode()}"
                weight = sum(len(value) for _, fields in entries for value in fields)
                size = max(1, min(PURGE_BATCH, len(entries) * PURGE_BYTES // max(1, weight)))
        for waiting in (self.keys.queue(queue).scheduled, self.keys.parked(queue)):
            offset = 0
            while ids := self.connections.execute("ZRANGE", waiting, offset, offset + PURGE_FIRST - 1):
                count = self.cancel(ids, reason)
                purged += count
                tell(purged)
                offset += len(ids) - count
        return purged

    def cancel(self, ids: Sequence[bytes], reason: str) -> int:
        """Cancels what no worker holds; how many that were. A batch is one round trip: give it 500 at most."""
        now = self.broker.time()
        calls: list[Call] = []
        for found in self.broker.find([id for id in ids if id]):
            if found.message is None:
                continue
            head = self.broker.lanes.head(found.queue, found.priority, found.share)
            key = self.keys.idempotency_of(found.message)
            outcome = encode_outcome(cancelled_outcome(found, reason, now))
            counted = activity("cancelled", found.message.task)
            calls.append((scripts.CANCEL, (*head, "", found.message.id, found.location, outcome, key, counted)))
        connection = self.connections.open()
        try:
            replies = run_scripts(connection, calls) if calls else []
        except Exception as error:
            raise typed(error, self.connections.location.display) from error
        finally:
            connection.disconnect()
        return sum(reply == [1] for reply in replies)
