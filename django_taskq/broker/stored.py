"""Everything of a namespace that holds messages, as raw bytes: for whoever has to know what still stands in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django_taskq.core.fields import pack_fields

if TYPE_CHECKING:
    from django_taskq.broker.broker import Broker

PAGE = 200


def stored_messages(broker: Broker, queues: Iterable[str]) -> Iterator[bytes]:
    """Every message that waits, runs, is scheduled or parked in these queues, and every outcome, packed; some twice.

    What moves meanwhile may be missed. Raises BrokerUnavailable or BrokerRefused.
    """
    execute, keys = broker.connections.execute, broker.keys
    for queue in queues:
        for lane in execute("ZRANGE", keys.queue(queue).lanes, 0, -1):
            yield from _stream(broker, lane)
        for messages in (keys.queue(queue).messages, f"{keys.parked(queue)}:messages"):
            cursor: Any = b"0"
            while True:
                cursor, flat = execute("HSCAN", messages, cursor, "COUNT", PAGE)
                yield from flat[1::2]
                if int(cursor) == 0:
                    break
    yield from _stream(broker, keys.outcomes)


def _stream(broker: Broker, name: str | bytes) -> Iterator[bytes]:
    after = "-"
    while entries := broker.connections.execute("XRANGE", name, after, "+", "COUNT", PAGE):
        yield from (pack_fields(fields) for _, fields in entries)
        after = f"({entries[-1][0].decode()}"
