"""The settling thread: collects settlements while the previous flush is under way, and sends them as one pipeline.

It keeps what it could not send, for as long as it takes: a script may be sent twice, and the fence sorts it out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import redis

from django_taskq.broker import scripts
from django_taskq.broker.connection import Connections, run_scripts
from django_taskq.broker.deliveries import Deliveries
from django_taskq.broker.delivery import CANCEL_REQUESTED, LOST, UNCONFIRMED, Settlement, refusals
from django_taskq.broker.errors import code_of, typed
from django_taskq.exceptions import BrokerUnavailable, TaskqError
from django_taskq.worker.database import close_stale_connections
from django_taskq.worker.held import Held
from django_taskq.worker.sealing import log_fault
from django_taskq.worker.tally import Tally
from django_taskq.worker.telling import name_of
from django_taskq.worker.unsettled import as_refused

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("django_taskq.worker")

LONGEST_PAUSE = 5.0  # seconds between attempts while Redis is away
FLUSH = 2_000  # settlements a pipeline


class Settler:
    """Owns its connection. `put` from any thread."""

    def __init__(
        self, connections: Connections, deliveries: Deliveries, held: Held, tally: Tally | None = None
    ) -> None:
        self._connections, self._deliveries, self._held, self._tally = connections, deliveries, held, tally
        self._queue: deque[Settlement] = deque()
        self._something = threading.Event()
        self._connection: redis.Connection | None = None
        self._stopping = threading.Event()
        self._patience: float | None = None
        self.settled = 0
        self.thread = threading.Thread(target=self._run, name="taskq-settler", daemon=True)
        self.thread.start()

    def put(self, settlement: Settlement | list[Settlement]) -> None:
        """Settles it, or all of them, soon."""
        if isinstance(settlement, list):
            self._queue.extend(settlement)
        else:
            self._queue.append(settlement)
        if not self._something.is_set():
            self._something.set()

    def stop(self, patience: float) -> None:
        """Settles what is there and ends; gives up after `patience` seconds without Redis."""
        self._patience = time.monotonic() + patience
        self._stopping.set()
        self._something.set()
        self.thread.join(patience + 6.0)

    def _run(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            while self._queue:
                self._flush([self._queue.popleft() for _ in range(min(len(self._queue), FLUSH))])
            if self._stopping.is_set():
                return

    def _flush(self, batch: list[Settlement]) -> None:
        """Sends a batch until Redis has answered for all of it."""
        pause, repeated = 0.0, False
        while batch:
            try:
                batch = self._send(batch, repeated)
            except TaskqError as error:
                if self._patience is not None and time.monotonic() > self._patience:
                    logger.error("%d tasks are not settled and will run again: %s", len(batch), error)
                    return
                if not pause:
                    logger.warning("%d tasks wait to be settled: %s", len(batch), error)
                pause, repeated = min(LONGEST_PAUSE, pause * 2 or 0.05), True
                if self._stopping.wait(pause):
                    time.sleep(0.1)
            except Exception as fault:  # noqa: BLE001 - the culprit is found, the others are settled
                self._disconnect()  # half a request may be on its way
                batch = self._isolated(batch, fault)

    def _isolated(self, batch: list[Settlement], fault: Exception) -> list[Settlement]:
        """Sends the halves of a batch that cannot even be sent, down to the culprit, which is buried in another way."""
        if len(batch) > 1:
            self._flush(batch[: len(batch) // 2])
            return batch[len(batch) // 2 :]
        log_fault(logger, batch[0].delivery, fault, "it cannot be settled as it is, and becomes a dead letter")
        culprit = as_refused(batch[0], fault, self._deliveries.keys)
        return [] if culprit is None else [culprit]

    def _send(self, batch: list[Settlement], repeated: bool) -> list[Settlement]:
        """One pipeline. Returns what has to be settled in another way; raises when Redis is away."""
        calls = self._deliveries.settle_calls(batch)
        try:
            if self._connection is None:
                self._connection = self._connections.open()
            replies = run_scripts(self._connection, [call for call, _ in calls])
        except redis.exceptions.DataError:
            raise
        except (redis.exceptions.RedisError, OSError) as error:
            self._disconnect()
            raise typed(error, self._connections.location.display) from error
        again: list[Settlement] = []
        away: TaskqError | None = None
        for (_, settlements), reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception):
                problem = typed(reply, self._connections.location.display)
                if isinstance(problem, BrokerUnavailable) or code_of(reply) == "NOPERM":
                    away = problem
                    again += settlements
                else:
                    again += self._refused(settlements, problem)
            else:
                again += self._settled(settlements, refusals(settlements[0], reply), repeated)
        if away is not None and len(again) == len(batch):
            self._disconnect()
            raise away
        return again

    def _settled(self, settlements: Sequence[Settlement], codes: dict[int, int], repeated: bool) -> list[Settlement]:
        again, lost = [], []
        for position, settlement in enumerate(settlements):
            code = codes.get(position) if codes else None
            if code in (CANCEL_REQUESTED, UNCONFIRMED) and settlement.instead is not None:
                again.append(settlement.instead())
                continue
            self._held.remove(settlement.delivery)
            if code is None:
                self.settled += settlement.script is not scripts.RELEASE
                if settlement.then is not None:
                    self._tell(settlement)
            elif code == LOST:
                lost.append(settlement)
        if self._tally is not None:
            self._tally.settled(
                [each for position, each in enumerate(settlements) if position not in codes] if codes else settlements
            )
        for settlement in self._not_standing(lost) if repeated else lost:
            logger.warning("%s was no longer this worker's: its outcome is void", name_of(settlement.delivery))
        return again

    def _not_standing(self, lost: Sequence[Settlement]) -> list[Settlement]:
        """What stands was settled by a call whose reply was lost: it is told now. Returns the others."""
        others = []
        try:
            if self._connection is not None:
                for settlement, stands in zip(lost, self._deliveries.stand(self._connection, lost), strict=True):
                    if not stands:
                        others.append(settlement)
                        continue
                    self.settled += 1
                    if self._tally is not None:
                        self._tally.settled([settlement])
                    self._tell(settlement)
        except (redis.exceptions.RedisError, OSError) as error:
            logger.debug("what became of %d settlements is not known: %s", len(lost), error)
            self._disconnect()
        return others

    def _tell(self, settlement: Settlement) -> None:
        """Logs and sends signals; a receiver may use the database."""
        if settlement.then is None:
            return
        try:
            settlement.then()
        except BaseException:  # SystemExit of a receiver passes through send_robust
            logger.exception("%s is settled, but telling of it failed", name_of(settlement.delivery))
        close_stale_connections()

    def _refused(self, settlements: list[Settlement], problem: TaskqError) -> list[Settlement]:
        """Halves a batch that Redis refuses; a single culprit is buried without what made it impossible."""
        if len(settlements) > 1:
            middle = len(settlements) // 2
            return self._send(settlements[:middle], True) + self._send(settlements[middle:], True)
        culprit = as_refused(settlements[0], problem, self._deliveries.keys)
        if culprit is None:
            # It stays pending here, and is not forgotten: what Redis refuses now it may take later.
            raise BrokerUnavailable(f"{name_of(settlements[0].delivery)} cannot be settled: {problem}")
        return [culprit]

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
