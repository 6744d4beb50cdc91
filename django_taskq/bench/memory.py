"""What a queued task takes of Redis' memory, measured in a namespace of its own, where no worker would take it away."""

from __future__ import annotations

from django_taskq.bench.tasks import nothing
from django_taskq.broker import Broker, Submission
from django_taskq.broker.keys import Keys
from django_taskq.conf import get_settings
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import BrokerRefused

MOST = 10_000  # tasks; more would not change the figure
ALL = 0  # samples of MEMORY USAGE: every element


def bytes_per_task(broker: Broker, queue: str, args: bytes, tasks: int) -> float | None:
    """Of the message and its place in the index; None where the user may not measure it. Raises BrokerUnavailable."""
    aside = Broker(broker.connections, Keys(f"{get_settings().namespace}.bench"))
    count, keys = min(tasks, MOST), aside.keys
    number, *names = aside.lanes.head(queue, nothing.priority)
    minute = int(broker.time() // 60)
    everything = [*names[: int(number)], *(f"{keys.stats_prefix}{minute + after}" for after in range(5))]
    execute = broker.connections.execute
    try:
        execute("DEL", *everything)
        try:
            messages = (Message(new_id(), nothing.name, args, priority=nothing.priority) for _ in range(count))
            aside.enqueue([Submission(message, queue) for message in messages])
            measured = (keys.lane(queue, nothing.priority), keys.index)
            return float(sum(execute("MEMORY", "USAGE", name, "SAMPLES", ALL) for name in measured)) / count
        finally:
            execute("DEL", *everything)
    except BrokerRefused:
        return None
