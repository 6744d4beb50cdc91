"""A message as flat fields, where it cannot be read or need not be: what is known of it, how it is kept or put off."""

from __future__ import annotations

import msgspec

from django_taskq.core.message import ENVELOPE, OF_ONE_PLACE, UNKNOWN_SINCE, Message, UnknownVersion, number_in, picked
from django_taskq.exceptions import MalformedMessage

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


def named(fields: list[bytes]) -> dict[bytes, bytes]:
    """Name -> value; a name without a value is left out."""
    return dict(zip(fields[::2], fields[1::2], strict=False))


def envelope_of(fields: list[bytes]) -> Message:
    """As much as can be known of a message that cannot be read; MalformedMessage where not even its id can."""
    values = named(fields)
    for names in (ENVELOPE, ENVELOPE[:2]):
        try:
            return Message.decode(picked(values, names))
        except MalformedMessage:
            continue
    return Message.decode([b"i", values.get(b"i", b""), b"t", b"?"])


def readable(fields: list[bytes]) -> Message | None:
    """The message, or what every version says of it; None where it cannot be read."""
    try:
        return Message.decode(fields)
    except UnknownVersion as error:
        return error.envelope
    except MalformedMessage:
        return None


def id_in(fields: list[bytes]) -> bytes:
    """The id that the fields name, b'' where they name none."""
    return named(fields).get(b"i", b"")


def put_off(fields: list[bytes], since: int, enqueued: int, losses: int) -> list[bytes]:
    """The fields of a message, of whatever version, that goes back to the schedule without having been run."""
    values = named(fields)
    values[UNKNOWN_SINCE] = b"%d" % since
    for name in OF_ONE_PLACE:
        values.pop(name, None)
    values.setdefault(b"e", b"%d" % enqueued)
    if losses:
        values[b"l"] = b"%d" % losses
    return [part for pair in values.items() for part in pair]


def unknown_since(fields: list[bytes], now: int) -> int:
    """Since when a message has waited for a worker that can run it; `now` (ms) where it has not, or nobody can tell."""
    values = named(fields)
    try:
        return min(now, max(0, number_in(values[UNKNOWN_SINCE])))
    except (KeyError, ValueError):
        return now


def losses_of(fields: list[bytes]) -> int:
    """Workers lost with a message before its last retry; 0 where that cannot be read."""
    try:
        return number_in(named(fields).get(b"l", b"0"))
    except ValueError:
        return 0


def pack_fields(fields: list[bytes] | list[bytes | str]) -> bytes:
    """Flat fields as one blob, for what a dead letter keeps."""
    return _pack([field.encode() if isinstance(field, str) else field for field in fields])


def unpack_fields(raw: bytes) -> list[bytes]:
    """The inverse of pack_fields; raises MalformedMessage."""
    try:
        return _unpack(raw)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"The packed message cannot be read: {error}") from error
