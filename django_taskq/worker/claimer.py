"""The claiming thread: asks for as much as the pools have room for, sleeps when there is nothing, and forgets nothing.

Claims are never repeated by the client: a lost reply leaves deliveries pending with this worker that it does not know
of. After every reconnect, and every ten seconds, it compares Redis' list with its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import redis

from django_taskq import registry
from django_taskq.broker.deliveries import Claim, Deliveries, Delivery, release
from django_taskq.broker.errors import typed
from django_taskq.exceptions import TaskqError
from django_taskq.worker.prefetch import ahead_for, room_for, to_claim
from django_taskq.worker.sleeper import Sleeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django_taskq.broker.connection import Connections
    from django_taskq.worker.clock import Clock
    from django_taskq.worker.held import Held
    from django_taskq.worker.loop import LoopPool
    from django_taskq.worker.pools import ThreadPool
    from django_taskq.worker.settler import Settler

logger = logging.getLogger("django_taskq.worker")

LONGEST_SLEEP = 5.0  # seconds
SLEEPER_LEASE_MS = 7_000
COMPARE_EVERY = 10.0  # seconds
MOST_WAIT = 1.0  # seconds a claimed message may wait here before it is released to other workers
LONGEST_PAUSE = 5.0  # seconds between attempts while Redis is away
ALONE_FROM = 2  # losses
SMOOTHING = 0.2  # weight of the newest claim in the share of async messages


class Claimer:
    """`stop()` from any thread. It ends by itself, too, and says why: `idle` when a burst finds nothing more, `enough`
    after `most` messages, `refused` when this worker was declared dead."""

    def __init__(
        self, connections: Connections, deliveries: Deliveries, held: Held, settler: Settler, threads: ThreadPool,
        loop: LoopPool, clock: Clock, room: threading.Event, *, most: int | None, register: Callable[[], None],
        idle: Callable[[], None] | None, enough: Callable[[], None], refused: Callable[[], None],
    ) -> None:  # fmt: skip
        self._connections, self._deliveries, self._held, self._settler = connections, deliveries, held, settler
        self._threads, self._loop, self._clock, self._room = threads, loop, clock, room
        self._most, self._register, self._idle, self._enough, self._refused = most, register, idle, enough, refused
        self._sleeper = Sleeper(connections, deliveries.wake_keys)
        self._connection: redis.Connection | None = None
        self._suspects: deque[Delivery] = deque()
        self._share: float | None = None
        self._asleep = self._full = False
        self._woken: bytes | None = None  # the wake list that the last sleep ended by
        self._compare_at = 0.0
        self._wake_read, self._wake_write = os.pipe()
        self.stopping = False
        self.claimed = 0
        self.thread = threading.Thread(target=self._run, name="taskq-claimer", daemon=True)

    def start(self) -> None:
        """Starts claiming."""
        self.thread.start()

    def stop(self) -> None:
        """Claims nothing more; what has not started is released. Returns when that is under way."""
        self.stopping = True
        self._room.set()
        os.write(self._wake_write, b"!")
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
        self._release(self._threads.take_back(float("inf")) + self._loop.take_back(float("inf")) + list(self._suspects))
        self._suspects.clear()
        self._get_up()
        self._disconnect()

    def _step(self) -> None:
        if self._suspects:
            self._run_suspect()
            return
        wanted = self._wanted()
        if wanted <= 0:
            self._wait_for_room()
            self._end_when_enough()
            return
        connection = self._connect()
        if time.monotonic() >= self._compare_at:
            self._compare(connection)
            return
        idle = not self._held
        claim = self._claim(connection, wanted)
        if claim.refused:
            self._refused()
            self.stopping = True
        elif claim.full:
            self._say_full()
            self._pause(1.0)
        elif claim.deliveries:
            self._full = False
            self._dispatch(claim.deliveries)
        elif self._idle is not None:
            self._end_burst(idle)
        else:
            self._sleep(connection, claim)

    def _end_burst(self, idle: bool) -> None:
        """Nothing is ready: the burst is over if nothing ran here when the claim was sent, for that might send more."""
        if not idle:
            self._pause(0.01)
        elif self._idle is not None:
            self._idle()
            self.stopping = True

    def _end_when_enough(self) -> None:
        """After `most` messages, as soon as all of them have started."""
        if self._most is not None and self.claimed >= self._most and not self._waiting():
            self._enough()
            self.stopping = True

    def _waiting(self) -> int:
        return self._threads.waiting() + self._loop.waiting()

    def _wanted(self) -> int:
        rooms = []
        for pool in (self._threads, self._loop):
            ahead = ahead_for(pool.size, pool.durations.seconds)
            pool.low = ahead // 2
            rooms.append(room_for(pool.size, pool.busy, pool.waiting(), ahead))
        wanted = to_claim(rooms[0], rooms[1], self._share)
        return wanted if self._most is None else min(wanted, self._most - self.claimed)

    def _claim(self, connection: redis.Connection, wanted: int) -> Claim:
        sent = time.monotonic()
        lease = 0 if self._idle is not None else SLEEPER_LEASE_MS
        claim = self._deliveries.claim(connection, wanted, sent, lease_ms=lease, awake=not self._asleep)
        self._asleep = False
        if claim.time:
            self._clock.set(claim.time, sent, time.monotonic())
        for delivery in claim.deliveries:
            self._held.add(delivery)
        self.claimed += len(claim.deliveries)
        return claim

    def _dispatch(self, deliveries: Sequence[Delivery]) -> None:
        to_loop = 0
        for delivery in deliveries:
            if (delivery.losses or b"l" in delivery.fields) and _losses(delivery) >= ALONE_FROM:
                self._suspects.append(delivery)
                continue
            if _is_async(delivery):
                self._loop.put(delivery)
                to_loop += 1
            else:
                self._threads.put(delivery)
        share = to_loop / len(deliveries)
        self._share = share if self._share is None else self._share + SMOOTHING * (share - self._share)
        if abs(self._share - round(self._share)) < 0.01:
            self._share = float(round(self._share))

    def _run_suspect(self) -> None:
        """A task that has cost workers runs alone, so that it takes nobody with it."""
        if self._waiting() or self._threads.busy or self._loop.busy:
            self._release_waiting(0.0)
            self._pause(0.05)
            return
        delivery = self._suspects.popleft()
        (self._loop if _is_async(delivery) else self._threads).put(delivery)
        while delivery.location in self._held and not self.stopping:
            self._pause(0.05)

    def _wait_for_room(self) -> None:
        self._room.clear()
        if self._wanted() <= 0:
            self._room.wait(0.25)
        self._release_waiting(MOST_WAIT)

    def _release_waiting(self, seconds: float) -> None:
        """Hands on what has waited here for longer than that."""
        before = time.monotonic() - seconds
        for pool in (self._threads, self._loop):
            if pool.waiting() and (late := pool.take_back(before)):
                self._release(late)
                if seconds:
                    pool.durations.at_least(seconds)  # or as much would be claimed again

    def _release(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._settler.put(release(delivery))

    def _compare(self, connection: redis.Connection) -> None:
        """Runs what Redis counts as this worker's and this worker does not hold."""
        pending = self._deliveries.pending(connection)
        missing = {(lane, entry) for lane, entry, _ in pending if entry + b" " + lane.suffix not in self._held}
        if missing:
            # What was settled between the list and the look is no longer pending in a second list.
            lost = [item for item in self._deliveries.pending(connection) if item[:2] in missing]
            now = time.monotonic()
            fetched = [self._deliveries.fetch(connection, *item, now) for item in lost]
            found = [delivery for delivery in fetched if delivery is not None]
            if found:
                logger.warning(
                    "%d deliveries had been claimed in a reply that never came; running them now", len(found)
                )
                for delivery in found:
                    self._held.add(delivery)
                self._dispatch(found)
        self._compare_at = time.monotonic() + COMPARE_EVERY

    def _sleep(self, connection: redis.Connection, claim: Claim) -> None:
        self._asleep = True
        seconds = LONGEST_SLEEP
        if self._waiting():
            self._release_waiting(MOST_WAIT)
            seconds = MOST_WAIT / 4
        if claim.next_due is not None:
            seconds = min(seconds, claim.next_due - self._clock.now() + 0.0005)
        if seconds > 0:
            self._woken = self._sleeper.sleep(seconds, connection, self._wake_read)

    def _get_up(self) -> None:
        """Sleeps no more; a token that woke this worker while it was told to stop is for another."""
        if self._asleep and self._connection is not None:
            try:
                self._deliveries.get_up(self._connection, self._woken)
            except (redis.exceptions.RedisError, OSError) as error:
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
            time.sleep(min(left, 0.1))

    def _connect(self) -> redis.Connection:
        if self._connection is None:
            self._connection = self._connections.open()
            self._compare_at = 0.0
        return self._connection

    def _disconnect(self) -> None:
        self._sleeper.close()
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


def _losses(delivery: Delivery) -> int:
    """Workers lost with this task, before its last retry included."""
    fields = delivery.fields
    before = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"l", b"0")
    return delivery.losses + (int(before) if before.isdigit() else 0)


def _is_async(delivery: Delivery) -> bool:
    """Whether a message is for the event loop. What cannot be read goes to a thread, which says so."""
    fields = delivery.fields
    if len(fields) > 3 and fields[2] == b"t":
        name = fields[3]
    else:  # a foreign producer's order
        name = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"t", b"")
    task = registry.lookup(name.decode("utf-8", "replace"))
    return task is not None and task.is_async
