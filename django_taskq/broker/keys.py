"""Every Redis key name, built here and nowhere else.

All carry one hash tag, so one namespace is one slot of a Redis Cluster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from django_taskq.core.message import Message

GROUP = "workers"
RETURNED = "returned"  # the consumer that holds what was released or reclaimed until the next claim


class QueueKeys(NamedTuple):
    """The keys of one queue."""

    lanes: str  # zset: full names of its lanes, score = priority
    scheduled: str  # zset: id -> due time in ms
    messages: str  # hash: id -> packed message of a scheduled task
    sleepers: str  # zset: worker -> end of its lease in ms
    wake: str  # list: tokens that wake sleepers


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        tag = self.tag = "{" + namespace + "}"
        self.lane_prefix = f"{tag}:queue:"
        self.ready = f"{tag}:ready"  # set: queues that have lanes
        self.due = f"{tag}:due"  # zset: queue -> due time of its first scheduled task, ms; early at worst
        self.index = f"{tag}:index"  # hash: id -> location
        self.outcomes = f"{tag}:outcomes"  # stream
        self.recorder = f"{tag}:recorder"  # hash: owner, until, cursor, lingering
        self.workers = f"{tag}:workers"  # zset: worker -> beat counter; negative: declared dead
        self.scheduled_prefix = f"{tag}:scheduled:"
        self.worker_prefix = f"{tag}:worker:"
        self.inbox_prefix = f"{tag}:inbox:"
        self.length_prefix = f"{tag}:length:"  # string, for a queue with many shares: how many tasks wait; expires soon
        self.parked_prefix = f"{tag}:parked:"
        self.limit_prefix = f"{tag}:limit:"
        self.waiting_prefix = f"{tag}:waiting:"
        self.breaker_prefix = f"{tag}:breaker:"  # hash of a circuit breaker: u, p, l, f (lua/lib/breaker.lua)
        self.breakers = f"{tag}:breakers"  # set: names of those that have ever failed
        self.rate_prefix = f"{tag}:rate:"  # hash of a rate limit: n, s, l, i (lua/lib/rate.lua)
        self.limits = f"{tag}:limits"  # set: limits that have holders or somebody waiting
        self.holds = f"{tag}:holds"  # hash: id -> the limits it holds a place of, one a line
        self.declared = f"{tag}:declared"  # hash: kind and limit -> since when (ms), and its numbers (lua/declare.lua)
        self.paused = f"{tag}:paused"  # set: queues that are not claimed from, `task:<name>` that are not handed over
        self.cancels = f"{tag}:cancels"  # hash: id -> '', for tasks a worker holds
        self.totals = f"{tag}:totals"  # hash: "<queue>:<state>" -> count
        self.stats_prefix = f"{tag}:stats:"  # hash of a minute (epoch minutes): what ended, how fast; 48 hours
        self.relay_prefix = f"{tag}:relay:"  # hash of a database's relay: owner, until, token
        self.nudge_prefix = f"{tag}:outbox:"  # channel, followed by a database: its outbox has something to send
        self.periodic = f"{tag}:periodic"  # hash: "<name of a periodic task>:tick" and the like
        self.done_prefix = f"{tag}:done:"  # channel, followed by the raw id: the state it ended in
        self.queue = lru_cache(maxsize=1024)(self._queue)

    def _queue(self, queue: str) -> QueueKeys:
        tag = self.tag
        return QueueKeys(
            lanes=f"{tag}:lanes:{queue}",
            scheduled=f"{tag}:scheduled:{queue}",
            messages=f"{tag}:scheduled:{queue}:messages",
            sleepers=f"{tag}:sleepers:{queue}",
            wake=f"{tag}:wake:{queue}",
        )

    def lane(self, queue: str, priority: int, share: str = "") -> str:
        """The stream of one priority of one queue, or of one share of it; locations carry its suffix.

        A share is `g` (gated: a claim looks at each message) or `f` (free), then letters and digits.
        """
        return f"{self.lane_prefix}{queue}:{priority}{share and ':'}{share}"

    def place(self, lane: bytes) -> Place | None:
        """What the full name of a lane says; None for what somebody listed and is no lane."""
        try:
            return place_of(lane.decode().removeprefix(self.lane_prefix))
        except ValueError:
            return None

    def worker(self, worker: str) -> str:
        """The hash that says what a worker is and what it is running."""
        return self.worker_prefix + worker

    def inbox(self, worker: str) -> str:
        """The list of requests to a worker: quiet, stop, cancel."""
        return self.inbox_prefix + worker

    def parked(self, queue: str) -> str:
        """The zset of a queue's parked ids by sequence; with `:messages` behind it, the hash of their messages."""
        return self.parked_prefix + queue

    def limit(self, limit: str) -> str:
        """The hash of a limit's holders: id -> location, '' while the message is on its way back to a worker."""
        return self.limit_prefix + limit

    def waiting(self, limit: str) -> str:
        """The zset of ids that wait for a limit, by sequence."""
        return self.waiting_prefix + limit

    def idempotency(self, task: str, key: str) -> str:
        """The string that holds the id of the task that owns an idempotency key."""
        return f"{self.tag}:idempotency:{task}:{key}"

    def idempotency_of(self, message: Message) -> str:
        """The same for a message; '' for one without a key."""
        return self.idempotency(message.task, message.idempotency_key) if message.idempotency_key else ""


def index_field(id: bytes) -> bytes:
    """A task's field in the index (broker/lua/lib/index.lua)."""
    return id[2:]


class Place(NamedTuple):
    """What a lane's suffix says, `<queue>:<priority>` or `<queue>:<priority>:<share>`."""

    queue: str
    priority: int
    share: str = ""


def place_of(suffix: str) -> Place:
    """Queue, priority and share of a lane's suffix; ValueError where it is none."""
    queue, _, rest = suffix.partition(":")
    priority, _, share = rest.partition(":")
    return Place(queue, int(priority), share)
