"""The relay: sends what is in the outbox of one database to Redis, in the order in which it was written.

Look in the records for what may have been sent before, send, delete the rows. Redis refuses an id that it knows and the
records know those that it has forgotten, so a crash in between sends nothing twice. The lease ends sooner than Redis
forgets: one relay at a time, and one that was held up in between sends nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from django.db import connections
from django.db.models import QuerySet
from django.db.models.functions import Length, Now

from django_taskq import outbox
from django_taskq.broker import Accepted, Broker, Submission
from django_taskq.broker.keys import Place
from django_taskq.broker.outbox import LeaseLost, RelayLease, withdraw
from django_taskq.broker.submission import BATCH, chunks_of
from django_taskq.conf import get_settings
from django_taskq.core.ids import id_to_str
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerRefused, BrokerUnavailable, TaskqError
from django_taskq.models import OutboxEntry

logger = logging.getLogger(__name__)

BATCH_BYTES = 4 << 20  # of calls that are in memory at a time
FRESH = 4.0  # seconds since it was written in which an entry cannot have been sent, run, recorded and forgotten
FIRST_PAUSE, LAST_PAUSE = 0.25, 15.0  # seconds for which a queue that takes nothing is left alone


def drain(broker: Broker) -> int:
    """Sends what is in the outboxes now, here, as far as no other relay is at it; how many entries are done with.

    For what cannot wait for a worker's relay: a worker that ends when nothing is ready, a test. Raises what database
    and broker raise.
    """
    done = 0
    for database in get_settings().outbox_databases:
        relay = Relay(broker, database)
        try:
            while count := relay.run_once():
                done += count
        finally:
            relay.give_up()
    return done


class Entry(NamedTuple):
    """A row as it is to be sent."""

    key: int
    submission: Submission
    age: float  # seconds since it was written


class Relay:
    """Sends while it holds the lease of its database. Any number may run; the others wait for its place."""

    def __init__(self, broker: Broker, database: str) -> None:
        self.broker, self.database = broker, database
        self.holding = False  # whether the last look found this relay holding the lease
        self._lease = RelayLease(broker, database, f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
        self._closed: dict[str, tuple[float, float]] = {}  # queue -> monotonic seconds until when, the pause that was

    @property
    def rows(self) -> QuerySet[OutboxEntry]:
        """The entries that are to be sent."""
        return OutboxEntry.objects.using(self.database).filter(state=OutboxEntry.State.WAITING)

    def run_once(self) -> int:
        """Sends one batch; how many entries are done with. 0 also while another relay holds the lease.

        Raises what database and broker raise.
        """
        while True:
            self.holding = self._lease.take()
            if not self.holding:
                return 0
            done, closed = self._send_batch()
            if done or not closed:  # otherwise all were for queues that take nothing: others may be behind them
                return done

    def _send_batch(self) -> tuple[int, bool]:
        """How many entries are done with, and whether a queue was found to take nothing."""
        entries, done, before = self._read(), 0, dict(self._closed)
        try:
            entries, sent_before = self._sort_out(entries)
            done += self._delete(sent_before)
            for lane in _by_lane(entries):
                done += self._send_lane(lane)
        except LeaseLost:
            self.holding = False
        return done, self._closed != before

    def _read(self) -> list[Entry]:
        """The oldest entries, as many as fit in memory, without those of queues that take nothing just now."""
        clock = time.monotonic()
        closed = [queue for queue, (until, _) in self._closed.items() if until > clock]
        rows = self.rows.exclude(queue__in=closed) if closed else self.rows
        sizes = rows.order_by("pk").annotate(size=Length("call")).values_list("pk", "size")[:BATCH]
        keys: list[int] = []
        left = BATCH_BYTES
        for key, size in sizes:
            if keys and size > left:
                break
            keys.append(key)
            left -= size
        if not keys:
            return []
        found = self.rows.filter(pk__in=keys).order_by("pk")
        entries = []
        for key, call, created, now in found.values_list("pk", "call", "created_at", Now()):
            try:
                entries.append(Entry(key, outbox.decode(call), (now - created).total_seconds()))
            except (msgspec.MsgspecError, ValueError) as error:
                self._refuse(key, f"It cannot be read: {error}")
        return entries

    def _sort_out(self, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Those to send, and those that an earlier relay has sent and that have ended since."""
        doubtful = [entry for entry in entries if not 0 <= entry.age < FRESH]
        ended = outbox.recorded([_uuid(entry) for entry in doubtful]) if doubtful else set()
        before = [entry for entry in doubtful if _uuid(entry) in ended]
        known = {entry.key for entry in before}
        return [entry for entry in entries if entry.key not in known], before

    def _send_lane(self, entries: list[Entry]) -> int:
        """Sends entries of one lane; how many are done with."""
        done = 0
        try:
            for chunk in chunks_of(map(_aged, entries)):
                done += self._settle(entries[done : done + len(chunk)], self._lease.send(chunk))
        except BrokerUnavailable:
            raise
        except TaskqError:
            return done + self._send_one_by_one(entries[done:])
        self._closed.pop(entries[0].submission.queue, None)
        return done

    def _send_one_by_one(self, entries: list[Entry]) -> int:
        """After a refusal. What Redis does not take while it takes others is put aside, for a person to look at.

        A queue that takes nothing is left alone for a while: then it is full, or all of Redis refuses us.
        """
        refused: list[tuple[Entry, BrokerRefused]] = []
        done = 0
        for entry in entries:
            try:
                done += self._settle([entry], self._lease.send([_aged(entry)]))
            except BrokerUnavailable:
                raise
            except BrokerRefused as refusal:
                refused.append((entry, refusal))
            except TaskqError as full:
                self._close(entry, full)
                break
        if done:
            for entry, error in refused:
                self._refuse(entry.key, str(error))
        elif refused:
            self._close(*refused[0])
        return done

    def _settle(self, entries: list[Entry], answers: list[Accepted]) -> int:
        """The rows go. Where another task has the idempotency key, the call ends here, and its record says so."""
        for entry, answer in zip(entries, answers, strict=True):
            if not answer.created:
                reason = f"{id_to_str(answer.id)} has its idempotency key"
                withdraw(self.broker, entry.submission, State.DISCARDED, reason)
        return self._delete(entries)

    def _delete(self, entries: list[Entry]) -> int:
        if entries:
            self.rows.filter(pk__in=[entry.key for entry in entries]).delete()
        return len(entries)

    def _close(self, entry: Entry, error: TaskqError) -> None:
        """Leaves a queue alone for a while, longer each time, and says why: in the log once, and on the row."""
        queue = entry.submission.queue
        _, before = self._closed.get(queue, (0.0, 0.0))
        pause = min(LAST_PAUSE, before * 2 or FIRST_PAUSE)
        self._closed[queue] = (time.monotonic() + pause, pause)
        if not before:
            logger.warning("relay: tasks for queue %s wait in the outbox of %r: %s", queue, self.database, error)
            self.rows.filter(pk=entry.key).update(error=str(error))

    def _refuse(self, key: int, error: str) -> None:
        """Puts a row aside, so that it is in nobody's way. It stays until somebody has looked at it."""
        logger.error("relay: entry %d in the outbox of %r cannot be sent: %s", key, self.database, error)
        self.rows.filter(pk=key).update(state=OutboxEntry.State.REFUSED, error=error)

    def close(self) -> None:
        """Gives up the lease, and the connection."""
        connections[self.database].close()
        self.give_up()

    def give_up(self) -> None:
        """Another relay may go on at once."""
        if self.holding:
            self.holding = False
            try:
                self._lease.give_up()
            except TaskqError as error:
                logger.debug("relay: the lease runs out by itself: %s", error)


def _by_lane(entries: Iterable[Entry]) -> Iterable[list[Entry]]:
    """Entries of one lane keep their order."""
    lanes: dict[Place, list[Entry]] = {}
    for entry in entries:
        lanes.setdefault(entry.submission.place, []).append(entry)
    return lanes.values()


def _aged(entry: Entry) -> Submission:
    """What is to be sent now: spans count from when it was written."""
    submission, age = entry.submission, max(0, round(entry.age * 1000))
    spans = {name: getattr(submission, name) for name in ("delay", "expires_in", "deadline_in")}
    if shorter := {name: span - age for name, span in spans.items() if span is not None}:
        return msgspec.structs.replace(submission, **shorter)
    return submission


def _uuid(entry: Entry) -> uuid.UUID:
    return uuid.UUID(bytes=entry.submission.message.id)
