"""What workers declare of limits: numbers of their settings and code, which hold for what was sent before, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_taskq.broker import scripts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django_taskq.broker.connection import Connections
    from django_taskq.broker.keys import Keys

PENDING = "p"  # what stands before a rate that has changed, while what is planned is yet to be planned anew

# At a schedule while something in it has to be planned anew: what leaves it meanwhile makes a look pass over others.
MOST_LOOKS = 3


class Declarations:
    """Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections, self._keys = connections, keys

    def known(self) -> dict[str, str]:
        """Kind and limit, and what was declared: since when (ms since the epoch), then the numbers."""
        flat = self._connections.execute("HGETALL", self._keys.declared)
        texts = [text.decode() for text in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def declare(self, numbers: Mapping[str, str], age: float) -> int:
        """By a worker that started `age` seconds ago; one that started later knows better. How many have changed."""
        words = [word for pair in numbers.items() for word in pair]
        names = (2, self._keys.index, self._keys.declared)
        return int(self._connections.run(scripts.DECLARE, (*names, round(age * 1000), *words))) if words else 0

    def replan(self, queues: Sequence[str]) -> int:
        """Has planned anew what waits for a moment of a rate that has changed; how many messages."""
        pending = self._pending()
        if not pending:
            return 0
        limits = [field.removeprefix(f"{PENDING}r:") for field in pending]
        moved = 0
        for _ in range(MOST_LOOKS):
            went_back = sum(self._replan_queue(queue, limits) for queue in queues)
            moved += went_back
            if not went_back:
                break
        still = self._pending()  # without those that have changed once more meanwhile
        if done := [field for field, since in pending.items() if still.get(field) == since]:
            self._connections.execute("HDEL", self._keys.declared, *done)
        return moved

    def _pending(self) -> dict[str, str]:
        return {field: since for field, since in self.known().items() if field.startswith(PENDING)}

    def _replan_queue(self, queue: str, limits: Sequence[str]) -> int:
        keys = self._keys.queue(queue)
        names = (
            self._keys.index, self._keys.ready, self._keys.declared, keys.scheduled, keys.messages, keys.lanes,
            keys.sleepers, keys.wake,
        )  # fmt: skip
        position = moved = 0
        while True:
            arguments = (len(names), *names, queue, position, *limits)
            looked, went_back = self._connections.run(scripts.REPLAN, arguments)
            if not looked:
                return moved
            position, moved = position + looked - went_back, moved + went_back
