"""A delivery, and the ways in which it ends: its settlement, on the way to Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts

if TYPE_CHECKING:
    from django_taskq.broker.scripts import Script

LOST = 0  # codes of what was not settled
CANCEL_REQUESTED = 2
DUPLICATE = 3
UNCONFIRMED = 4


class Lane(NamedTuple):
    """Where deliveries come from."""

    name: str
    suffix: bytes
    queue: str
    priority: int
    share: str = ""


# Its task, seconds that it waited, seconds that it ran (None: its attempt did not begin).
Spent = tuple[str, float | None, float | None]


class Delivery:
    """A message held by this worker. `losses`: workers lost while running it in this delivery chain."""

    __slots__ = ("cancelled", "claimed", "entry", "fields", "instead", "lane", "location", "losses", "spent")

    def __init__(
        self, lane: Lane, entry: bytes, fields: list[bytes], losses: int, cancelled: bool, claimed: float,
        instead: str = "",
    ) -> None:  # fmt: skip
        self.lane = lane
        self.entry = entry
        self.fields = fields
        self.losses = losses
        self.cancelled = cancelled
        self.claimed = claimed  # monotonic seconds
        self.instead = instead  # why it is to be discarded, and not run
        self.location = entry + b" " + lane.suffix
        self.spent: Spent | None = None  # once that is known


class Settlement(NamedTuple):
    """One delivery's end on its way to Redis; `arguments` follow the entry in the script's ARGV."""

    script: Script
    delivery: Delivery
    arguments: tuple[Any, ...]
    size: int = 0
    then: Callable[[], None] | None = None  # once it is settled
    instead: Callable[[], Settlement] | None = None  # when cancelling was requested, or the id is not confirmed


def complete(
    delivery: Delivery, id: bytes, state: str, outcome: bytes, activity: str, key: str = "", ttl: int = 0, **more: Any
) -> Settlement:
    """Succeeded, cancelled, expired or discarded. `key`: the idempotency key's full name, kept for `ttl` ms."""
    return Settlement(scripts.COMPLETE, delivery, (id, state, outcome, key, str(ttl), activity), len(outcome), **more)


def bury(
    delivery: Delivery, id: bytes, reason: str, outcome: bytes, activity: str, key: str = "", **more: Any
) -> Settlement:
    """Failed: to the dead letters."""
    return Settlement(scripts.BURY, delivery, (id, reason, outcome, key, activity), len(outcome), **more)


def retry(
    delivery: Delivery, id: bytes, delay: float, fields: Sequence[bytes | str], activity: str, **more: Any
) -> Settlement:
    """Back to the schedule for `delay` seconds, with its new message."""
    arguments = (id, max(0, round(delay * 1000)), activity, len(fields), *fields)
    return Settlement(scripts.RETRY, delivery, arguments, sum(map(len, fields)), **more)


def release(delivery: Delivery) -> Settlement:
    """Back to its place in the lane: this worker will not run it."""
    return Settlement(scripts.RELEASE, delivery, ())


def refusals(settlement: Settlement, reply: Any) -> dict[int, int]:
    """Position -> code of what a settling call did not settle."""
    if settlement.script is scripts.RELEASE:
        return {}
    return dict(zip(reply[::2], reply[1::2], strict=True))


def left_behind(settlement: Settlement, found: Sequence[Any]) -> bool:
    """Whether find.lua found what this settlement leaves behind: its outcome, or the next attempt's message."""
    location, _, payload = found
    if settlement.script is scripts.RETRY:
        fields = [part if isinstance(part, bytes) else str(part).encode() for part in settlement.arguments[4:]]
        return bool((payload[1:] if location[:1] == b"s" else payload) == fields)
    return bool(payload == settlement.arguments[2])
