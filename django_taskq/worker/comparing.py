"""What a lost reply has left behind: deliveries that Redis counts as this worker's and that it does not know of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis

    from django_taskq.broker.deliveries import Deliveries
    from django_taskq.broker.delivery import Delivery
    from django_taskq.worker.held import Held


def unknown_deliveries(deliveries: Deliveries, held: Held, connection: redis.Connection) -> list[Delivery]:
    """Those that were claimed in a reply that never came. For the claiming thread: nobody else adds to `held`."""
    missing = {
        (lane, entry) for lane, entry, _ in deliveries.pending(connection) if entry + b" " + lane.suffix not in held
    }
    if not missing:
        return []
    # What was settled between the list and the look is no longer pending in a second list.
    lost = [item for item in deliveries.pending(connection) if item[:2] in missing]
    now = time.monotonic()
    fetched = [deliveries.fetch(connection, *item, now) for item in lost]
    return [delivery for delivery in fetched if delivery is not None]
