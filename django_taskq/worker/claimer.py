"""The claiming thread: asks for as much as the pools have room for, sleeps when there is nothing, and forgets nothing.

Claims are never repeated by the client: a lost reply leaves deliveries pending with this worker that it does not know
of. After every reconnect, and every ten seconds, it compares Redis' list with its own.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Literal

import redis

from django_taskq.broker.deliveries import Claim, Deliveries
from django_taskq.broker.errors import typed
from django_taskq.exceptions import TaskqError
from django_taskq.worker.comparing import unknown_deliveries
from django_taskq.worker.distributor import MOST_WAIT
from django_taskq.worker.sleeper import Sleeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_taskq.broker.connection import Connections
    from django_taskq.worker.clock import Clock
    from django_taskq.worker.distributor import Distributor
    from django_taskq.worker.held import Held

logger = logging.getLogger("django_taskq.worker")

LONGEST_SLEEP = 5.0  # seconds
SLEEPER_LEASE_MS = 7_000
COMPARE_EVERY = 10.0  # seconds
LOOK_EVERY = 0.1  # seconds, at what waits here or for room
PROBE = 16  # messages claimed to see whether one is for the pool that has room
LONGEST_PAUSE = 5.0  # seconds between attempts while Redis is away

Ended = Literal["idle", "enough", "refused", "crowded"]


class Claimer:
    """`stop()` from any thread. It ends by itself, too, and `ended` says why: `idle` when a burst finds nothing more,
    `enough` after `most` messages, `refused` when this worker was declared dead, `crowded` when a task that must run
    alone came and what runs here does not end soon."""

    def __init__(
        self, connections: Connections, deliveries: Deliveries, held: Held, distributor: Distributor, clock: Clock,
        room: threading.Event, register: Callable[[], None], *, most: int | None = None, burst: bool = False,
    ) -> None:  # fmt: skip
        self._connections, self._deliveries, self._held = connections, deliveries, held
        self._distributor, self._clock, self._room = distributor, clock, room
        self._register, self._most, self._burst = register, most, burst
        self._sleeper = Sleeper(connections, deliveries.wake_keys)
        self._connection: redis.Connection | None = None
        self._asleep = self._full = False
        self._compare_at = self._full_since = 0.0  # monotonic seconds
        self.stopping = False
        self.ended: Ended | None = None
        self.claimed = 0
        self.thread = threading.Thread(target=self._run, name="taskq-claimer", daemon=True)

    def start(self) -> None:
        """Starts claiming."""
        self.thread.start()

    def stop(self) -> None:
        """Claims nothing more; what has not started is released. Returns when that is under way."""
        self.stopping = True
        self._room.set()
        self._sleeper.wake()
        self.thread.join(LONGEST_SLEEP + 6.0)

    def _run(self) -> None:
        pause, registered = 0.0, False
        while not self.stopping:
            try:
                if not registered:
                    self._register()
                    registered = True
                self._step()
                if pause:
                    logger.info("claiming again")
                pause = 0.0
                continue
            except (TaskqError, redis.exceptions.RedisError, OSError) as error:
                if not pause:
                    logger.warning(
                        "claiming stops until Redis is back: %s", typed(error, self._connections.location.display)
                    )
            except Exception:
                logger.exception("claiming failed, trying again")
            self._disconnect()
            pause = min(LONGEST_PAUSE, pause * 2 or 0.05)
            self._pause(pause)
        self._distributor.release_all()
        self._get_up()
        self._disconnect()

    def _end(self, why: Ended) -> None:
        self.ended = why
        self.stopping = True

    def _step(self) -> None:
        self._distributor.start_batches()
        if time.monotonic() >= self._compare_at:
            self._compare(self._connect())
            return
        if self._distributor.has_suspects():
            self._run_suspect()
            return
        wanted = self._wanted()
        if wanted <= 0:
            self._wait_for_room()
            self._probe()
            self._end_when_enough()
            return
        self._full_since = 0.0
        connection, idle = self._connect(), not self._held
        claim = self._claim(connection, wanted, 0 if self._burst else SLEEPER_LEASE_MS)
        if claim.deliveries:
            self._full = False
            self._distributor.give(claim.deliveries)
        elif claim.refused:
            return
        elif claim.full:
            self._say_full()
            self._pause(1.0)
        elif self._burst:
            self._end_burst(claim, idle)
        else:
            self._sleep(connection, claim)

    def _end_burst(self, claim: Claim, idle: bool) -> None:
        """Nothing is ready: the burst is over if nothing ran here when the claim was sent, for that might send more."""
        self._distributor.start_batches(due=False)
        if claim.next_due is not None and claim.next_due <= self._clock.now():
            return
        if idle:
            self._end("idle")
        else:
            self._pause(0.01)

    def _end_when_enough(self) -> None:
        """After `most` messages, as soon as all of them have started."""
        if self._most is None or self.claimed < self._most:
            return
        self._distributor.start_batches(due=False)
        if not self._distributor.waiting():
            self._end("enough")

    def _wanted(self) -> int:
        wanted = self._distributor.wanted()
        return wanted if self._most is None else min(wanted, self._most - self.claimed)

    def _claim(self, connection: redis.Connection, wanted: int, lease: int) -> Claim:
        sent = time.monotonic()
        claim = self._deliveries.claim(connection, wanted, sent, lease_ms=lease, awake=not self._asleep)
        if claim.time:
            self._asleep = False
            self._clock.set(claim.time, sent, time.monotonic())
        for delivery in claim.deliveries:
            self._held.add(delivery)
        self.claimed += len(claim.deliveries)
        if claim.refused:
            self._end("refused")
        return claim

    def _run_suspect(self) -> None:
        """Runs it alone. What runs here has a moment to end; then this process makes way for one that is empty."""
        deadline = time.monotonic() + MOST_WAIT
        while not self.stopping and (delivery := self._distributor.start_suspect(len(self._held))) is None:
            if time.monotonic() >= deadline and self._distributor.busy():
                self._end("crowded")
            self._pause(0.05)
        while not self.stopping and delivery is not None and delivery.location in self._held:
            self._pause(0.05)

    def _wait_for_room(self) -> None:
        self._room.clear()
        if self._wanted() <= 0:
            self._room.wait(self._until_batch(LOOK_EVERY))
        self._distributor.release_late()

    def _probe(self) -> None:
        """While one pool stays full the next messages may be for the other: claims some, gives back what cannot run."""
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since < LOOK_EVERY or not self._distributor.one_is_full() or self.claimed == self._most:
            return
        most = PROBE if self._most is None else min(PROBE, self._most - self.claimed)
        claim = self._claim(self._connect(), most, 0)
        placed = self._distributor.offer(claim.deliveries)
        self.claimed -= len(claim.deliveries) - placed
        if not placed:
            self._full_since = now

    def _compare(self, connection: redis.Connection) -> None:
        """Runs what Redis counts as this worker's and this worker does not hold."""
        found = unknown_deliveries(self._deliveries, self._held, connection)
        if found:
            logger.warning("%d deliveries had been claimed in a reply that never came; running them now", len(found))
            for delivery in found:
                self._held.add(delivery)
            # A limit may have had something against it, which is for a claim to say once more.
            gated = [delivery for delivery in found if self._deliveries.is_gated(delivery)]
            self._distributor.release(gated)
            if len(gated) < len(found):
                self._distributor.give([delivery for delivery in found if delivery not in gated])
        self._compare_at = time.monotonic() + COMPARE_EVERY

    def _sleep(self, connection: redis.Connection, claim: Claim) -> None:
        self._asleep = True
        seconds = LONGEST_SLEEP
        if self._distributor.waiting():
            self._distributor.release_late()
            seconds = LOOK_EVERY
        if claim.next_due is not None:
            seconds = min(seconds, claim.next_due - self._clock.now() + 0.0005)
        seconds = self._until_batch(seconds)
        if seconds > 0:
            self._sleeper.sleep(seconds, connection)

    def _until_batch(self, seconds: float) -> float:
        """So many seconds, or fewer when a batch is to start sooner."""
        due = self._distributor.next_batch()
        return seconds if due is None else max(0.0, min(seconds, due - time.monotonic()))

    def _get_up(self) -> None:
        """Sleeps no more: it was told to stop, or declared dead."""
        if self._asleep:
            try:
                self._deliveries.get_up(self._connect())
            except (TaskqError, redis.exceptions.RedisError, OSError) as error:
                logger.debug("the sleeper's lease runs out by itself: %s", error)

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            logger.error(
                "claiming stops: too many outcomes wait for the database (MAX_OUTCOMES). Is the database away, or no "
                "maintenance process running?"
            )

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stopping and (left := deadline - time.monotonic()) > 0:
            time.sleep(self._until_batch(min(left, 0.1)))
            self._distributor.start_batches()

    def _connect(self) -> redis.Connection:
        if self._connection is None:
            self._connection = self._connections.open()
        return self._connection

    def _disconnect(self) -> None:
        self._sleeper.close()
        self._compare_at = 0.0  # a reply may have been lost with the connection
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
