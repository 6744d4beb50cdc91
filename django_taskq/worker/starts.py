"""When rate-limited tasks really start. A start that is later than it may be moves its limit's plan (late.lua).

Redis keeps the distances between the moments at which it hands tasks over. Where a process is so busy that it starts
one later, those that follow would come too close to it, unless they come later, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from django_taskq.broker import scripts
from django_taskq.core.gates import gates_in, gates_of_queue
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.rates import lateness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_taskq.broker.connection import Connections
    from django_taskq.broker.delivery import Delivery
    from django_taskq.broker.keys import Keys
    from django_taskq.core.gates import Gate
    from django_taskq.queue_options import QueueOptions

logger = logging.getLogger("django_taskq.worker")

KEPT = 500  # late starts that wait to be told
PAUSE = 0.2  # seconds between attempts while Redis is away


class Starts:
    """`note` from any thread; its own thread begins with the first late start and tells Redis."""

    def __init__(self, connections: Connections, keys: Keys, queues: Mapping[str, QueueOptions]) -> None:
        self._connections, self._keys = connections, keys
        rates = {queue: _rates(gates_of_queue(queue, options)) for queue, options in queues.items()}
        self.rated = {queue: gates for queue, gates in rates.items() if gates}
        self._late: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self._something, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def note(self, delivery: Delivery, gates: bytes) -> None:
        """A task whose message has these gates is about to start."""
        late = late_starts(
            delivery, _rates(gates_in(gates)) + self.rated.get(delivery.lane.queue, []), time.monotonic()
        )
        if late:
            self._late.extend(late)
            self._begin()
            self._something.set()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taskq-starts", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            batch = [self._late.popleft() for _ in range(len(self._late))]
            while batch:
                try:
                    arguments = [argument for start in batch for argument in start]
                    self._connections.run(scripts.LATE, (1, self._keys.index, *arguments))
                    break
                except BrokerUnavailable as error:
                    logger.debug("late starts: %s", error)
                    time.sleep(PAUSE)
                except Exception as error:  # noqa: BLE001 - the next ones are told, whatever became of these
                    logger.warning(
                        "%d late starts cannot be told to Redis; tasks behind the same rate limit may follow them too "
                        "closely: %s", len(batch), error,
                    )  # fmt: skip
                    break


def _rates(gates: list[Gate]) -> list[Gate]:
    return [gate for gate in gates if gate[0] == "r"]


def late_starts(delivery: Delivery, rates: list[Gate], now: float) -> list[tuple[Any, ...]]:
    """The arguments of late.lua for each rate limit after whose hand-over it took too long to start (`now`: monotonic).

    When it was handed over, and by which moments, the claim has written into field c, in microseconds.
    """
    if not rates:
        return []
    *slots, handed = map(
        int, dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=True)).get(b"c", b"0").split()
    )
    if len(slots) != len(rates):
        return []
    took = int((now - delivery.claimed) * 1e6)
    late = []
    for (_, limit, _, _, tolerance), slot in zip(rates, slots, strict=True):
        allowed, most = lateness(tolerance)
        if slot and took > allowed - tolerance:
            late.append((limit, slot, handed + took, allowed, most))
    return late
