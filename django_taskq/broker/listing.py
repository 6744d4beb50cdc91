"""What waits in a queue, page by page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.broker.found import Found, enqueued_at
from django_taskq.broker.keys import Place, place_of
from django_taskq.core.fields import id_in, readable
from django_taskq.core.message import Message
from django_taskq.core.states import State

if TYPE_CHECKING:
    from django_taskq.broker.broker import Broker

MOST = 100  # messages a page
LANES = 16  # looked at for one page
_OFFSET = re.compile(r"[0-9]{1,15}")
_ENTRY = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")


class QueuedMessage(NamedTuple):
    """A message in a lane or a schedule. Times are epoch seconds. `message` None: it cannot be read."""

    state: State
    priority: int
    message: Message | None
    enqueued: float | None
    due: float | None = None  # of a scheduled one
    worker: str = ""  # who holds it, where it runs
    queue: str = ""
    waits_for: str = ""  # the limit that blocks it


class Page(NamedTuple):
    """Some of them. `following`: the cursor of the next page, '' at the end."""

    messages: list[QueuedMessage]
    following: str


def ready_messages(broker: Broker, queue: str, cursor: str, count: int) -> Page:
    """What is in the queue's lanes, waiting or held, in the order of claiming. Raises ValueError for a bad cursor.

    Three round trips. A page may be shorter than `count` and have a next one.
    """
    count = min(count, MOST)
    place, after = _position(queue, cursor)
    names = broker.connections.execute("ZRANGE", broker.keys.queue(queue).lanes, 0, -1)
    lanes = [(name, of) for name in names if (of := broker.keys.place(name)) is not None]
    lanes.sort(key=lambda lane: (lane[1].priority, lane[0]), reverse=True)
    first = b""
    if place is not None:  # lanes of one priority follow each other by name, the last one first
        first, priority = broker.keys.lane(*place).encode(), place.priority
        lanes = [(name, of) for name, of in lanes if (of.priority, name) <= (priority, first)]
    replies = broker.connections.pipeline(
        [("XRANGE", name, f"({after}" if name == first else "-", "+", "COUNT", count + 1) for name, _ in lanes[:LANES]]
    )
    entries = [(of, name, fields) for (_, of), reply in zip(lanes, replies, strict=False) for name, fields in reply]
    shown = entries[:count]
    found = broker.find([id_in(fields) for _, _, fields in shown]) if shown else []
    messages = [
        _waiting(of, name, fields, each) for (of, name, fields), each in zip(shown, found, strict=True)
    ]  # fmt: skip
    if len(entries) > count:
        return Page(messages, _cursor(shown[-1][0], shown[-1][1].decode()))
    return Page(messages, _cursor(lanes[LANES][1], "0-0") if len(lanes) > LANES else "")


def waiting_messages(broker: Broker, name: str, cursor: str, count: int) -> Page:
    """What is in a queue's schedule, soonest first, or among its parked, the longest there first: `name` is the zset.

    Raises ValueError for a bad cursor. Two round trips.
    """
    if cursor and not _OFFSET.fullmatch(cursor):
        raise ValueError(f"not a cursor: {cursor!r}")
    count, first = min(count, MOST), int(cursor or 0)
    ids = broker.connections.execute("ZRANGE", name, first, first + count)
    found = broker.find(ids[:count]) if ids else []
    messages = [_apart(each) for each in found if each.state in (State.SCHEDULED, State.BLOCKED)]
    return Page(messages, str(first + count) if len(ids) > count else "")


def _cursor(place: Place, entry: str) -> str:
    """The lane without its queue, and the entry that the page before ended with."""
    return f"{place.priority}{place.share and ':'}{place.share}/{entry}"


def _position(queue: str, cursor: str) -> tuple[Place | None, str]:
    if not cursor:
        return None, ""
    lane, _, entry = cursor.partition("/")
    if not _ENTRY.fullmatch(entry):
        raise ValueError(f"not a cursor: {cursor!r}")
    return place_of(f"{queue}:{lane}"), entry


def _waiting(place: Place, entry: bytes, fields: list[bytes], found: Found) -> QueuedMessage:
    """`found` knows who holds it; an entry that another producer added without an index is not found."""
    message = readable(fields)
    here = found.location.partition(b" ")[0] == entry
    state = State.RUNNING if here and found.state is State.RUNNING else State.QUEUED
    sent = enqueued_at(message, entry) if message else int(entry.partition(b"-")[0]) / 1000
    return QueuedMessage(state, place.priority, message, sent, None, found.worker if here else "", place.queue)


def _apart(found: Found) -> QueuedMessage:
    due = None if found.due is None else found.due / 1000
    message = found.message
    state, sent = found.state or State.SCHEDULED, enqueued_at(message, b"") if message else None
    return QueuedMessage(state, found.priority, message, sent, due, "", found.queue, found.waits_for)
