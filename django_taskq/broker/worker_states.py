"""What workers are and what they are running, as of their last beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker.found import enqueued_at
from django_taskq.core.fields import readable
from django_taskq.core.ids import id_to_str
from django_taskq.core.progress import Progress, decode_progress

if TYPE_CHECKING:
    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

MOST_RUNNING = 500  # running tasks that one look resolves to names


class RunningTask(NamedTuple):
    """A task that a worker runs. Times are epoch seconds."""

    id: str
    task: str
    queue: str
    attempt: int
    since: float
    progress: Progress | None = None


class WorkerState(NamedTuple):
    """One task process. `dead`: declared dead, its tasks are being handed on."""

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
    async_concurrency: int = 0
    supervisor: int = 0  # its process id
    version: str = ""  # of this package
    python: str = ""
    django: str = ""
    weights: list[int] = []  # of the queues; [] where they have none
    max_outcomes: int = 0  # unrecorded outcomes past which it claims nothing; 0: not known

    @property
    def served(self) -> list[str]:
        """The queues, with their weights where they have some."""
        if len(self.weights) != len(self.queues):
            return self.queues
        return [f"{queue}:{weight}" for queue, weight in zip(self.queues, self.weights, strict=True)]


def worker_states(connections: Connections, keys: Keys) -> list[WorkerState]:
    """Every registered worker; three round trips. Raises BrokerUnavailable or BrokerRefused."""
    counters = connections.execute("ZRANGE", keys.workers, 0, -1, "WITHSCORES")
    ids = [worker.decode() for worker in counters[::2]]
    hashes = connections.pipeline([("HGETALL", keys.worker(worker)) for worker in ids])
    described = [_text(flat) for flat in hashes]
    running = _running(connections, keys, described)
    return [
        _worker_state(worker, float(beats) < 0, fields, tasks)
        for worker, beats, fields, tasks in zip(ids, counters[1::2], described, running, strict=True)
    ]


def progress_of(connections: Connections, keys: Keys, worker: str, location: bytes) -> Progress | None:
    """How far the task at that location is, if its worker knows; one round trip."""
    running, progress = connections.execute("HMGET", keys.worker(worker), "running", "progress")
    if not running or not progress:
        return None
    locations = running.decode("utf-8", "replace").split("\n")
    lines = dict(zip(locations, progress.decode("utf-8", "replace").split("\n"), strict=False))
    return decode_progress(lines.get(location.decode("utf-8", "replace"), ""))


class _Noted(NamedTuple):
    """A task as its worker noted it."""

    worker: int
    location: str
    since: str
    progress: str


def _running(connections: Connections, keys: Keys, described: list[dict[str, str]]) -> list[list[RunningTask]]:
    """Resolves the locations that workers noted to tasks, a bounded number of them."""
    noted = [note for number, fields in enumerate(described) for note in _noted(number, fields)][:MOST_RUNNING]
    commands = []
    for note in noted:
        entry, _, suffix = note.location.partition(" ")
        commands.append(("XRANGE", keys.lane_prefix + suffix, entry, entry))
    running: list[list[RunningTask]] = [[] for _ in described]
    for note, entries in zip(noted, connections.pipeline(commands), strict=True):
        task = _running_task(note, entries)
        if task is not None:
            running[note.worker].append(task)
    return running


def _noted(worker: int, fields: dict[str, str]) -> list[_Noted]:
    locations = fields.get("running", "").split("\n")
    columns = []
    for name in ("since", "progress"):
        column = fields.get(name, "").split("\n")
        columns.append(column + [""] * (len(locations) - len(column)))
    return [_Noted(worker, *parts) for parts in zip(locations, *columns, strict=False) if parts[0]]


def _running_task(note: _Noted, entries: Sequence[Any]) -> RunningTask | None:
    if not entries:
        return None  # it has ended since
    message = readable(entries[0][1])
    if message is None:
        return None
    queue = note.location.partition(" ")[2].partition(":")[0]
    started = float(note.since or 0) or enqueued_at(message, note.location.encode()) or 0.0
    return RunningTask(
        id_to_str(message.id), message.task, queue, message.attempt + 1, started, decode_progress(note.progress)
    )


def _worker_state(worker: str, dead: bool, fields: dict[str, str], running: list[RunningTask]) -> WorkerState:
    return WorkerState(
        id=worker, host=fields.get("host", ""), pid=int(fields.get("pid", 0)),
        queues=[queue for queue in fields.get("queues", "").split(",") if queue], threads=int(fields.get("threads", 0)),
        started=float(fields.get("started", 0)), beat=float(fields["beat"]) if "beat" in fields else None,
        state="dead" if dead else fields.get("state", "starting"), dead=dead, rss=int(fields.get("rss", 0)),
        settled=int(fields.get("settled", 0)), running=running, async_concurrency=int(fields.get("async", 0)),
        supervisor=int(fields.get("supervisor", 0)), version=fields.get("version", ""),
        python=fields.get("python", ""), django=fields.get("django", ""),
        weights=[int(weight) for weight in fields.get("weights", "").split(",") if weight],
        max_outcomes=int(fields.get("max_outcomes", 0)),
    )  # fmt: skip


def _text(flat: list[bytes]) -> dict[str, str]:
    texts = [part.decode("utf-8", "replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
