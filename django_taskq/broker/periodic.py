"""Ticks of periodic tasks: fired once each, and what Redis notes about them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from django_taskq.broker import scripts
from django_taskq.broker.overflow import FULL
from django_taskq.broker.submission import answers_of

if TYPE_CHECKING:
    from django_taskq.broker.broker import Broker
    from django_taskq.broker.submission import Accepted, Submission

_NUMBERS = ("tick", "fired", "late", "missed", "overlapped")


class Fired(IntEnum):
    """What became of a tick (broker/lua/fire.lua)."""

    BEFORE = 0  # somebody had fired it, or a later one
    SENT = 1
    GIVEN_UP = 2
    OVERLAPPED = 3  # not sent: the one before is still on its way, or another task has its idempotency key
    REFUSED = 4


class Tick(NamedTuple):
    """One tick of a periodic task; `at` and `settled` are epoch ms, `missed` counts the ticks given up before it."""

    name: str
    at: int
    settled: int = 0  # the last tick that the database knows of
    missed: int = 0
    late: bool = False
    overlap: bool = True


class Note(NamedTuple):
    """What Redis knows of a periodic task: its last tick (epoch ms), the id last sent, counts since the beginning."""

    tick: int = 0
    fired: int = 0
    late: int = 0
    missed: int = 0
    overlapped: int = 0
    id: bytes = b""


class Ticks:
    """Raises BrokerUnavailable, BrokerFull or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._key = broker, broker.keys.periodic

    def fire(self, tick: Tick, submission: Submission) -> tuple[Fired, Accepted | None]:
        """Sends a tick's message unless the tick was fired before.

        Safe to repeat, and for any number at once. Tries once: whoever fires comes again. QueueFull and RateLimited,
        which it raises besides, leave the tick to be fired later.
        """
        broker, queue, id = self._broker, submission.queue, submission.message.id
        if broker.overflow.drops(queue):
            return self._fire_displacing(tick, submission)
        what, reply = self._run(scripts.FIRE, tick, broker.enqueue_arguments([submission]), id)
        if what is Fired.REFUSED and reply[0] == FULL:
            raise broker.overflow.full(queue, *reply[1:])
        return what, answers_of([submission], reply)[0] if what in (Fired.SENT, Fired.REFUSED) else None

    def _fire_displacing(self, tick: Tick, submission: Submission) -> tuple[Fired, Accepted | None]:
        """`fire` for a queue whose oldest tasks make room."""
        broker, what = self._broker, Fired.BEFORE

        def send(arguments: list[Any]) -> Any:
            nonlocal what
            what, reply = self._run(scripts.FIRE_DISPLACE, tick, arguments, submission.message.id)
            return reply or [1, [], []]

        head, message = broker.lanes.head(*submission.place), broker.lanes.admission(submission)
        answers = answers_of([submission], broker.overflow.make_room(head, message, send, broker.time))
        return what, answers[0] if what is Fired.SENT else None

    def give_up(self, tick: Tick) -> Fired:
        """Gives up a tick, and those before it."""
        return self._run(scripts.FIRE, tick, self._broker.lanes.head("default", 0), b"")[0]

    def _run(self, script: scripts.Script, tick: Tick, arguments: Sequence[Any], id: bytes) -> tuple[Fired, Any]:
        count = int(arguments[0])
        more = (tick.name, tick.at, tick.settled, tick.missed, int(tick.late), int(tick.overlap), id)
        keys, values = arguments[1 : count + 1], arguments[count + 1 :]
        what, reply = self._broker.connections.run(script, [count + 1, *keys, self._key, *values, *more])
        return Fired(what), reply

    def notes(self, names: Sequence[str]) -> list[Note]:
        """What Redis knows of each of these periodic tasks, in one round trip."""
        if not names:
            return []
        fields = [f"{name}:{field}" for name in names for field in (*_NUMBERS, "id")]
        values = self._broker.connections.execute("HMGET", self._key, *fields)
        width = len(_NUMBERS) + 1
        return [_note(values[at : at + width]) for at in range(0, len(values), width)]

    def forget(self, name: str) -> None:
        """Removes what is noted of a periodic task that is no more."""
        self._broker.connections.execute("HDEL", self._key, *(f"{name}:{field}" for field in (*_NUMBERS, "id")))


def notes_by_name(flat: Sequence[bytes]) -> dict[str, Note]:
    """What Redis knows of all periodic tasks that have been fired or given up, from the reply to HGETALL; by name."""
    known = dict(zip(flat[::2], flat[1::2], strict=True))
    names = sorted(field.removesuffix(b":tick") for field in known if field.endswith(b":tick"))
    fields = [field.encode() for field in (*_NUMBERS, "id")]
    return {
        name.decode("utf-8", "replace"): _note([known.get(b"%b:%b" % (name, field)) for field in fields])
        for name in names
    }


def _note(values: Sequence[bytes | None]) -> Note:
    tick, fired, late, missed, overlapped = (int(number or 0) for number in values[:-1])
    return Note(tick, fired, late, missed, overlapped, values[-1] or b"")
