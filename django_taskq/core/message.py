"""The message: one call of a task on the wire, as flat fields of a stream entry. docs/protocol.md specifies it.

Field names are one letter and defaults are left out: a stream node stores the names once for entries with equal fields.
Arguments stay raw JSON here; only the producer encodes and only the executor decodes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from django_taskq.exceptions import MalformedMessage

VERSION = 1
KEPT_ATTEMPTS = 10
KEPT_WORKERS = 10
LONGEST_NUMBER = 15  # digits of a number on the wire; milliseconds have 13
DEFAULT_IDEMPOTENCY_TTL = 86_400

# Fields that mean the same in every version: a worker that cannot run a message can put it off, bury or cancel it.
ENVELOPE = (b"i", b"t", b"r", b"l", b"d", b"e")
OF_ONE_PLACE = (b"z", b"c")  # written by scripts while a message is parked or waits for its slot
UNKNOWN_SINCE = b"g"  # ms; since when the message has waited for a worker that can run it. Left out of the next attempt
PASSING = (*OF_ONE_PLACE, UNKNOWN_SINCE)


class Attempt(msgspec.Struct, array_like=True):
    """One ended attempt; times are epoch seconds on Redis' clock."""

    number: int
    started: float
    ended: float
    worker: str
    how: str  # failed, timeout, worker_lost, cancelled, retry, unknown_task
    error_class: str = ""
    error_message: str = ""
    traceback: str = ""
    log: str = ""  # the last lines of its own, where TASKQ["CAPTURE_LOGS"] keeps them


# gc=False: it cannot be part of a cycle, and thousands at a time would keep the garbage collector busy.
class Message(msgspec.Struct, gc=False):
    """One call. Times are epoch milliseconds on Redis' clock; `args` is a JSON array, `kwargs` a JSON object."""

    id: bytes
    task: str
    args: bytes = b"[]"
    kwargs: bytes = b"{}"
    priority: int = 0
    run: int = 1
    attempt: int = 0  # attempts begun before this delivery
    losses: int = 0  # workers lost while running it, in earlier deliveries
    enqueued: int | None = None  # None: the stream entry's own id says it
    first_started: int | None = None
    waited: int | None = None  # ms from ready to the first start
    expires: int | None = None
    deadline: int | None = None  # it must have ended by then
    idempotency_key: str = ""
    idempotency_ttl: int = DEFAULT_IDEMPOTENCY_TTL  # seconds
    gates: bytes = b""  # what a claim asks before it hands this over (core/gates.py)
    options: dict[str, Any] = {}
    headers: dict[str, str] = {}
    worker_ids: list[str] = []
    history: list[Attempt] = []
    fair_key: str = ""  # whose it is: messages of one key share a lane
    origin: str = ""  # JSON: what django.tasks knows of its own calls, and nobody else does
    later: tuple[bytes, ...] = ()  # names and values of fields that a later version knows; they go where it goes

    def fields(self) -> list[bytes | str]:
        """Flat name, value, name, value ... as XADD takes them."""
        fields: list[bytes | str] = ["i", self.id, "t", self.task]
        if self.args != b"[]":
            fields += ("a", self.args)
        if self.kwargs != b"{}":
            fields += ("k", self.kwargs)
        numbers = (
            self.priority, self.run - 1, self.attempt, self.losses, self.enqueued, self.first_started, self.waited,
            self.expires, self.deadline,
        )  # fmt: skip
        if any(numbers):
            for name, number in zip("prnlesuxD", numbers, strict=True):
                if number:
                    fields += (name, str(number))
        if self.idempotency_key:
            fields += ("d", self.idempotency_key)
            if self.idempotency_ttl != DEFAULT_IDEMPOTENCY_TTL:
                fields += ("y", str(self.idempotency_ttl))
        collections = (self.options, self.headers, self.worker_ids, self.history)
        if any(collections):
            for name, collection in zip("omwh", collections, strict=True):
                if collection:
                    fields += (name, _encode_json(collection))
        if self.gates or self.origin or self.fair_key or self.later:
            fields += (*_present(("q", self.gates), ("f", self.origin), ("F", self.fair_key)), *self.later)
        return fields

    @property
    def share(self) -> str:
        """That of its lane: `g` where a claim must look at each message, or `f`; then the key's, if it has one."""
        if self.fair_key:
            return ("g" if self.gates else "f") + share_of(self.fair_key)
        return "g" if self.gates else ""

    def remember(self, attempt: Attempt) -> None:
        """Adds an ended attempt to the history, which keeps the last ten."""
        self.history = [*self.history, attempt][-KEPT_ATTEMPTS:]

    @property
    def waited_seconds(self) -> float | None:
        """Seconds from ready to the first start, where that is known."""
        return None if self.waited is None else self.waited / 1000

    def ran_on(self, worker: str) -> list[str]:
        """The workers that ran it, the last ten: this one too."""
        return [*self.worker_ids, worker][-KEPT_WORKERS:] if self.worker_ids else [worker]

    @classmethod
    def decode(cls, fields: list[bytes]) -> Message:
        """The message of a stream entry; raises MalformedMessage, which names the field, or UnknownVersion."""
        if len(fields) % 2:
            raise MalformedMessage("The entry has a field without a value.")
        flat = iter(fields)
        named = dict(zip(flat, flat, strict=True))
        version = named.pop(b"v", b"1")
        if version != b"1":
            raise _of_version(version, named)
        try:
            id, task = named.pop(b"i"), named.pop(b"t").decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"The entry has no usable id (field i) and task name (field t): {error}.") from error
        if len(id) != 16 or not task:
            raise MalformedMessage("Field i must be 16 bytes and field t a task name.")
        message = cls(id, task, named.pop(b"a", b"[]"), named.pop(b"k", b"{}"))
        if named:
            _decode_rest(message, named)
        return message


def share_of(fair_key: str) -> str:
    """A short name for a key. Two keys of one name would share a lane, and be no worse off."""
    return hashlib.blake2b(fair_key.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def _present(*pairs: tuple[str, bytes | str]) -> list[bytes | str]:
    return [part for pair in pairs if pair[1] for part in pair]


class UnknownVersion(MalformedMessage):
    """The message has a later version than this process knows. `envelope` is what every version says the same way."""

    def __init__(self, text: str, envelope: Message) -> None:
        super().__init__(text)
        self.envelope = envelope


def _of_version(version: bytes, named: dict[bytes, bytes]) -> MalformedMessage:
    text = f"The message has version {version.decode('ascii', 'replace')!r}; this process knows {VERSION}."
    if not version.isdigit() or len(version) > 9 or int(version) <= VERSION:
        return MalformedMessage(text)
    return UnknownVersion(text, Message.decode(picked(named, ENVELOPE)))


def picked(named: dict[bytes, bytes], names: Iterable[bytes]) -> list[bytes]:
    """Flat fields again, of those names that there are."""
    return [part for name in names if name in named for part in (name, named[name])]


_encode_json = msgspec.json.Encoder().encode
_INTEGERS = {
    b"p": "priority",
    b"n": "attempt",
    b"l": "losses",
    b"e": "enqueued",
    b"s": "first_started",
    b"u": "waited",
    b"x": "expires",
    b"D": "deadline",
}
_TEXTS = {b"d": "idempotency_key", b"f": "origin", b"F": "fair_key"}
_COLLECTIONS: dict[bytes, tuple[str, msgspec.json.Decoder[Any]]] = {
    b"o": ("options", msgspec.json.Decoder(dict[str, Any])),
    b"m": ("headers", msgspec.json.Decoder(dict[str, str])),
    b"w": ("worker_ids", msgspec.json.Decoder(list[str])),
    b"h": ("history", msgspec.json.Decoder(list[Attempt])),
}


def number_in(value: bytes) -> int:
    """A number that clocks, databases and Redis can hold; ValueError."""
    if len(value) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(value)} digits")
    return int(value)


def _decode_rest(message: Message, named: dict[bytes, bytes]) -> None:
    """Decodes the fields that most messages leave out; fields of a later version are kept as they are."""
    for name, value in named.items():
        try:
            if name in _INTEGERS:
                setattr(message, _INTEGERS[name], number_in(value))
            elif name in _TEXTS:
                setattr(message, _TEXTS[name], value.decode())
            elif name in _COLLECTIONS:
                attribute, decoder = _COLLECTIONS[name]
                setattr(message, attribute, decoder.decode(value))
            elif name == b"q":
                message.gates = value
            elif name == b"r":
                message.run = number_in(value) + 1
            elif name == b"y":
                message.idempotency_ttl = number_in(value)
            elif name not in PASSING:
                message.later += (name, value)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise MalformedMessage(f"Field {name.decode('ascii', 'replace')} cannot be read: {error}") from error
