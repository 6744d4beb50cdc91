"""What an operator wants to know: queues, workers, running tasks. Every look is bounded. No worker imports this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts
from django_taskq.broker.broker import Broker, cancelled_outcome, enqueued_at
from django_taskq.broker.connection import run_scripts
from django_taskq.broker.errors import typed
from django_taskq.broker.queues import QueueState, queue_states
from django_taskq.core.activity import activity
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message, UnknownVersion
from django_taskq.core.outcome import encode_outcome
from django_taskq.exceptions import MalformedMessage

if TYPE_CHECKING:
    from django_taskq.broker.connection import Call

__all__ = ["Inspector", "QueueState", "RunningTask", "WorkerState"]

PURGE_BATCH = 500
MOST_RUNNING = 500  # running tasks that one look resolves to names


class RunningTask(NamedTuple):
    """A task that a worker runs, as of its last beat. Times are epoch seconds."""

    id: str
    task: str
    queue: str
    attempt: int
    since: float


class WorkerState(NamedTuple):
    """One task process, as of its last beat. `dead`: declared dead, its tasks are being handed on."""

    id: str
    host: str
    pid: int
    queues: list[str]
    threads: int
    started: float
    beat: float | None
    state: str
    dead: bool
    rss: int  # bytes
    settled: int
    running: list[RunningTask]


class Inspector:
    """Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.connections, self.keys = broker, broker.connections, broker.keys

    def queues(self, names: Iterable[str]) -> list[QueueState]:
        """The state of queues, in the order given; one round trip."""
        return queue_states(self.connections, self.keys, names)

    def workers(self) -> list[WorkerState]:
        """Every registered worker with what it is running; three round trips."""
        counters = self.connections.execute("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES")
        ids = [worker.decode() for worker in counters[::2]]
        hashes = self.connections.pipeline([("HGETALL", self.keys.worker(worker)) for worker in ids])
        described = [_text(flat) for flat in hashes]
        running = self._running(described)
        return [
            _worker_state(worker, float(beats) < 0, fields, tasks)
            for worker, beats, fields, tasks in zip(ids, counters[1::2], described, running, strict=True)
        ]

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

    def purge(self, queue: str, reason: str = "purged", progress: Callable[[int], object] | None = None) -> int:
        """Cancels what waits in a queue or is scheduled for it; what runs is left alone. Returns how many.

        Each becomes a recorded outcome like any cancelled task. In batches, so that it can be repeated; `progress` is
        told after each how many that were so far.
        """
        purged, tell = 0, progress or (lambda _: None)
        for lane in self.connections.execute("ZRANGE", self.keys.queue(queue).lanes, 0, -1):
            cursor = "-"
            while entries := self.connections.execute("XRANGE", lane, cursor, "+", "COUNT", PURGE_BATCH):
                purged += self.cancel([_id_of(fields) for _, fields in entries], reason)
                tell(purged)
                cursor = f"({entries[-1][0].decode()}"
        offset = 0
        while ids := self.connections.execute(
            "ZRANGE", self.keys.queue(queue).scheduled, offset, offset + PURGE_BATCH - 1
        ):
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
            head = self.broker.lanes.head(found.queue, found.priority)
            key = found.message.idempotency_key and self.keys.idempotency(
                found.message.task, found.message.idempotency_key
            )
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

    def _running(self, described: list[dict[str, str]]) -> list[list[RunningTask]]:
        """Resolves the locations that workers noted to tasks, a bounded number of them."""
        noted = [
            (number, location, since)
            for number, fields in enumerate(described)
            for location, since in zip(
                fields.get("running", "").split("\n"), fields.get("since", "").split("\n"), strict=False
            )
            if location
        ][:MOST_RUNNING]
        commands = []
        for _, location, _ in noted:
            entry, _, suffix = location.partition(" ")
            commands.append(("XRANGE", self.keys.lane_prefix + suffix, entry, entry))
        running: list[list[RunningTask]] = [[] for _ in described]
        for (number, location, since), entries in zip(noted, self.connections.pipeline(commands), strict=True):
            task = _running_task(location, since, entries)
            if task is not None:
                running[number].append(task)
        return running


def _worker_state(worker: str, dead: bool, fields: dict[str, str], running: list[RunningTask]) -> WorkerState:
    return WorkerState(
        id=worker, host=fields.get("host", ""), pid=int(fields.get("pid", 0)),
        queues=[queue for queue in fields.get("queues", "").split(",") if queue], threads=int(fields.get("threads", 0)),
        started=float(fields.get("started", 0)), beat=float(fields["beat"]) if "beat" in fields else None,
        state="dead" if dead else fields.get("state", "starting"), dead=dead, rss=int(fields.get("rss", 0)),
        settled=int(fields.get("settled", 0)), running=running,
    )  # fmt: skip


def _running_task(location: str, since: str, entries: list[Any]) -> RunningTask | None:
    if not entries:
        return None  # it has ended since
    try:
        message = Message.decode(entries[0][1])
    except UnknownVersion as error:
        message = error.envelope
    except MalformedMessage:
        return None
    queue = location.partition(" ")[2].rpartition(":")[0]
    started = float(since or 0) or enqueued_at(message, location.encode()) or 0.0
    return RunningTask(id_to_str(message.id), message.task, queue, message.attempt + 1, started)


def _id_of(fields: list[bytes]) -> bytes:
    return next((value for name, value in zip(fields[::2], fields[1::2], strict=False) if name == b"i"), b"")


def _text(flat: list[bytes]) -> dict[str, str]:
    texts = [part.decode("utf-8", "replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
