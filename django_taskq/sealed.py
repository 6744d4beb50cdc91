"""What of a task is sealed, and where: the call in its message, and what a run leaves behind.

A call is sealed once and for all runs, so that a dead letter can be requeued where there is no key; results, errors and
logs are sealed for their run. A field that is empty stays empty. Everything that belongs to a sealed call is sealed.
"""

from __future__ import annotations

import msgspec

from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.sealing import Place, from_json, is_sealed, is_sealed_json, to_json
from django_taskq.exceptions import TaskqError, Undecryptable
from django_taskq.keyring import get_keyring

CALL = "call"
TEXTS = ("result_error", "error_message", "traceback", "log")
OF_ATTEMPT = ("error_message", "traceback", "log")
MARK = b'"$sealed:1:"'  # in the place of arguments: what follows is sealed
UNKEPT = "(not kept: no key was there to seal it)"

_pair = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode


# --- calls ------------------------------------------------------------------------------------------------------------


def seal_call(message: Message) -> None:
    """Seals the arguments of a message that has its id. Raises KeyMissing."""
    message.args, message.kwargs = sealed_call(message.id, message.task, message.args, message.kwargs)


def sealed_call(id: bytes, task: str, args: bytes, kwargs: bytes) -> tuple[bytes, bytes]:
    """Arguments and keyword arguments, as they go into a message. Raises KeyMissing."""
    return seal_pair(Place(id, task, CALL), args, kwargs)


def opened_call(id: bytes, task: str, args: bytes | str, kwargs: bytes | str) -> tuple[bytes, bytes]:
    """The inverse. Raises KeyMissing, and Undecryptable where keyword arguments came beside the sealed ones."""
    return open_pair(Place(id, task, CALL), args, kwargs)


def seal_pair(place: Place, args: bytes, kwargs: bytes) -> tuple[bytes, bytes]:
    """Arguments and keyword arguments as one sealed value in the place of the first. Raises KeyMissing."""
    return to_json(get_keyring().seal(place, b"[%b,%b]" % (args, kwargs))), b"{}"


def open_pair(place: Place, args: bytes | str, kwargs: bytes | str) -> tuple[bytes, bytes]:
    """The inverse. Raises KeyMissing, Undecryptable."""
    if kwargs not in ("{}", b"{}"):
        raise Undecryptable(f"{place.task}: plain keyword arguments stand beside sealed arguments.")
    plain = get_keyring().open(place, from_json(args))
    try:
        first, second = _pair(plain)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Undecryptable(f"{place.task}: what was sealed is no call: {error}") from error
    return bytes(first), bytes(second)


def opened_message(message: Message) -> Message:
    """The message with plain arguments; itself if they are. Raises what `opened_call` raises."""
    if not is_sealed_json(message.args):
        return message
    args, kwargs = opened_call(message.id, message.task, message.args, message.kwargs)
    return msgspec.structs.replace(message, args=args, kwargs=kwargs)


# --- what a run leaves ------------------------------------------------------------------------------------------------


def seal_outcome(outcome: Outcome, task: str) -> Outcome:
    """Seals what the run left, in place. Where there is no key to do it with, it is left out instead."""
    if not outcome.recorded:  # whoever opens it must know whose it is
        outcome.task, outcome.args = task, MARK

    def sealed(kind: str, plain: bytes) -> str:
        return get_keyring().seal(Place(outcome.id, outcome.task, kind, outcome.run), plain)

    try:
        if not is_sealed_json(outcome.args):
            outcome.args, outcome.kwargs = sealed_call(outcome.id, outcome.task, outcome.args, outcome.kwargs)
        if outcome.result is not None:
            outcome.result = to_json(sealed("result", outcome.result))
        for name in TEXTS:
            if text := getattr(outcome, name):
                setattr(outcome, name, sealed(name, text.encode("utf-8", "replace")))
    except TaskqError:
        _leave_out(outcome)
    seal_history(outcome)
    return outcome


def _leave_out(outcome: Outcome) -> None:
    if not is_sealed_json(outcome.args):
        outcome.args, outcome.kwargs = MARK, b"{}"
    if outcome.result is not None or outcome.result_error:
        outcome.result, outcome.result_error = None, UNKEPT
    outcome.error_message = UNKEPT if outcome.error_message else ""
    outcome.traceback = outcome.log = ""


def seal_history(of: Message | Outcome) -> None:
    """Seals what attempts left that were made before the task had encrypt=True."""
    for attempt in of.history:
        if not any(is_sealed(getattr(attempt, name)) for name in OF_ATTEMPT):
            seal_attempt(of, attempt)


def seal_attempt(of: Message | Outcome, attempt: Attempt) -> None:
    """Seals what an attempt leaves in its message's history; or leaves it out, as above."""
    for name in OF_ATTEMPT:
        if text := getattr(attempt, name):
            place = Place(of.id, of.task, f"{name}.{attempt.number}", of.run)
            try:
                setattr(attempt, name, get_keyring().seal(place, text.encode("utf-8", "replace")))
            except TaskqError:
                setattr(attempt, name, UNKEPT)
