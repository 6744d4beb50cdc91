"""Sealed values for those who may see them: opened, or a placeholder that names the key.

Sealed values were never redacted before they were stored, so what is shown of them is redacted here. Placeholders are
English, unless `say` translates them: programs read what the API and the commands say.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from django.utils.translation import gettext_noop

from django_taskq.conf import get_settings
from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.sealing import Place, from_json, is_sealed, is_sealed_json, key_id_of
from django_taskq.exceptions import KeyMissing, Undecryptable
from django_taskq.keyring import get_keyring
from django_taskq.models import DeadTask, TaskResult
from django_taskq.redaction import redact_json
from django_taskq.sealed import OF_ATTEMPT, TEXTS, opened_call

Say = Callable[[str], str]
Row = TypeVar("Row", bound=TaskResult | DeadTask)


class Opener:
    """Opens what belongs to one run of one task. Without `may` everything stays a placeholder; `redact`: secrets."""

    def __init__(
        self, id: bytes, task: str, run: int, *, may: bool = True, redact: bool = True, say: Say = str
    ) -> None:
        self._id, self._task, self._run, self._may, self._say = id, task, run, may, say
        self._shown: Callable[[bytes], bytes] = redact_json if redact else bytes

    def text(self, kind: str, text: str) -> str:
        """The plain text, as it is where it is not sealed; or a placeholder, which says why."""
        if not is_sealed(text):
            return text
        try:
            return self._open(kind, text).decode("utf-8", "replace").replace("\x00", "\\x00")  # as in plain rows
        except Undecryptable as error:
            return self._placeholder(text, error)

    def json(self, kind: str, raw: bytes | str) -> str:
        """The same for a JSON value; secrets hidden."""
        text = _str(raw)
        if not is_sealed_json(text):
            return text
        try:
            return _str(self._shown(self._open(kind, from_json(text))))
        except Undecryptable as error:
            return _encoded(self._placeholder(from_json(text), error))

    def call(self, args: bytes | str, kwargs: bytes | str) -> tuple[str, str]:
        """Arguments and keyword arguments, likewise."""
        if not is_sealed_json(args):
            return _str(args), _str(kwargs)
        try:
            if not self._may:
                raise Undecryptable
            first, second = opened_call(self._id, self._task, args, kwargs)
            return _str(self._shown(first)), _str(self._shown(second))
        except Undecryptable as error:
            shown = _encoded(self._placeholder(from_json(args), error))
            return shown, shown

    def attempt(self, attempt: dict[str, Any]) -> dict[str, Any]:
        """An entry of the history."""
        number = attempt.get("number")
        texts = {name: self.text(f"{name}.{number}", str(attempt.get(name) or "")) for name in OF_ATTEMPT}
        return {**attempt, **texts}

    def _placeholder(self, sealed: str, error: Undecryptable) -> str:
        return placeholder(sealed, error if self._may else None, say=self._say)

    def _open(self, kind: str, text: str) -> bytes:
        if not self._may:
            raise Undecryptable
        return get_keyring().open(Place(self._id, self._task, kind, self._run), text)


def placeholder(sealed: str, error: Undecryptable | None = None, *, say: Say = str) -> str:
    """What stands for a sealed text that is not shown."""
    try:
        key_id = key_id_of(sealed)
    except Undecryptable:
        return say(gettext_noop("[sealed]"))
    if isinstance(error, KeyMissing):
        text = say(gettext_noop("[sealed with key %(key)s, which is not here]"))
    elif error:
        text = say(gettext_noop("[sealed with key %(key)s, and altered since]"))
    else:
        text = say(gettext_noop("[sealed with key %(key)s]"))
    return text % {"key": key_id}


def hidden(text: str, *, say: Say = str) -> str:
    """For lists: a placeholder for a sealed text."""
    return placeholder(text, say=say) if is_sealed(text) else text


def shown_row(row: Row, *, may: bool, redact: bool = True, say: Say = str) -> Row:
    """A row as somebody sees it who `may` see arguments or not; itself, if it is plain. Not to be saved."""
    if not is_sealed_json(row.args):
        return row
    id = row.task_id if isinstance(row, DeadTask) else row.id
    opener = Opener(id.bytes, row.task, row.run, may=may, redact=redact, say=say)
    opened = copy.copy(row)
    opened.args, opened.kwargs = opener.call(row.args, row.kwargs)
    for name in TEXTS:
        if hasattr(row, name):
            setattr(opened, name, opener.text(name, getattr(row, name)))
    opened.history = json.dumps([opener.attempt(each) for each in row.attempts_history])
    if not isinstance(opened, DeadTask) and opened.result is not None:
        opened.result = opener.json("result", opened.result)
    return opened


def shown_outcome(outcome: Outcome, *, may: bool, redact: bool = True) -> Outcome:
    """The same for an outcome in Redis."""
    if not is_sealed_json(outcome.args):
        return outcome
    opener = Opener(outcome.id, outcome.task, outcome.run, may=may, redact=redact)
    args, kwargs = opener.call(outcome.args, outcome.kwargs)
    return msgspec.structs.replace(
        outcome, args=args.encode(), kwargs=kwargs.encode(), history=_history(opener, outcome.history),
        result=None if outcome.result is None else opener.json("result", outcome.result).encode(),
        **{name: opener.text(name, getattr(outcome, name)) for name in TEXTS},
    )  # fmt: skip


def shown_message(message: Message, *, may: bool, redact: bool = True, say: Say = str) -> Message:
    """The same for what has not ended."""
    if not is_sealed_json(message.args):
        return message
    opener = Opener(message.id, message.task, message.run, may=may, redact=redact, say=say)
    args, kwargs = opener.call(message.args, message.kwargs)
    return msgspec.structs.replace(
        message, args=args.encode(), kwargs=kwargs.encode(), history=_history(opener, message.history)
    )


def opened_end(ending: Outcome | TaskResult, *, succeeded: bool, encrypts: bool) -> Outcome | TaskResult:
    """How a run ended, whole, for whoever waits for it; where an error cannot be opened, a placeholder says why.

    Raises KeyMissing, and Undecryptable for a result that was altered, or that came plain from Redis where the task
    `encrypts`.
    """
    if not is_sealed_json(ending.args):
        if encrypts and succeeded and isinstance(ending, Outcome) and not get_settings().encryption_accept_plain:
            raise Undecryptable(f"{ending.task}: it has encrypt=True, and its result came plain.")
        return ending
    opened: Outcome | TaskResult
    if isinstance(ending, Outcome):
        opened = shown_outcome(ending, may=True, redact=False)
        opened.result = _result(ending.id, ending) if succeeded else None
    else:
        opened = shown_row(ending, may=True, redact=False)
        result = _result(ending.pk.bytes, ending) if succeeded else None
        opened.result = None if result is None else result.decode()
    return opened


def _result(id: bytes, ending: Outcome | TaskResult) -> bytes | None:
    """As the task returned it, its secrets included."""
    if ending.result is None:
        return None
    return get_keyring().open(Place(id, ending.task, "result", ending.run), from_json(ending.result))


def _history(opener: Opener, history: list[Attempt]) -> list[Attempt]:
    return [Attempt(**opener.attempt(msgspec.structs.asdict(each))) for each in history]


def _encoded(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _str(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
