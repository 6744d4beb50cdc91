"""Arguments of a dead letter as somebody may edit them: secrets stay hidden, and keep their values where untouched.

Each secret is shown as a numbered placeholder, which stands for its value wherever it is moved to, under the same key
only: nobody gets to see a secret by moving it to a key that is shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from django_taskq.conf import get_settings
from django_taskq.core.message import Message
from django_taskq.exceptions import InvalidArguments
from django_taskq.redaction import is_secret
from django_taskq.registry import lookup
from django_taskq.requeue import Arguments

LONGEST = 262_144  # bytes of JSON that a form shows


class Unusable(Exception):
    """The arguments cannot be edited, or what was made of them cannot be sent; says why. `field` is the form's."""

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


@dataclass(slots=True)
class Editable:
    """A stored message's arguments as text, and what its placeholders stand for."""

    args: str
    kwargs: str
    secrets: dict[str, tuple[str, Any]] = field(default_factory=dict)  # placeholder -> key, value


def editable(message: Message) -> Editable:
    """Raises Unusable for arguments that are too long for a form, or no JSON."""
    if len(message.args) + len(message.kwargs) > LONGEST:
        raise Unusable(_("The arguments are too long to be edited here."))
    secrets: dict[str, tuple[str, Any]] = {}
    try:
        args, kwargs = (_pretty(_hide(json.loads(raw), secrets)) for raw in (message.args, message.kwargs))
    except (ValueError, RecursionError):
        raise Unusable(_("The stored arguments are not JSON.")) from None
    return Editable(args, kwargs, secrets)


def edited(message: Message, args: str, kwargs: str) -> Arguments:
    """What was typed, with its secrets put back and found to fit the task; Unusable if not."""
    shown = editable(message)
    encoded = []
    for name, raw, before, typed, kind in (
        ("args", message.args, shown.args, args, list),
        ("kwargs", message.kwargs, shown.kwargs, kwargs, dict),
    ):
        if _lines(typed) == before:
            encoded.append(raw)
            continue
        value = _restored(_parsed(typed, name, kind), shown.secrets, name)
        encoded.append(_encoded(value, name))
    arguments = Arguments(*encoded)
    _check(message.task, arguments)
    return arguments


def _check(name: str, arguments: Arguments) -> None:
    """As `delay()` and the worker check it."""
    task = lookup(name)
    if task is None:
        raise Unusable(_("The task %(name)s is not known to this process, so nothing can check them.") % {"name": name})
    size, limit = sum(map(len, arguments)), get_settings().max_payload_bytes
    if size > limit:
        raise Unusable(_("They take %(size)d bytes; %(limit)d are allowed.") % {"size": size, "limit": limit})
    try:
        task.bind(*arguments)
    except InvalidArguments as error:
        raise Unusable(str(error)) from error


def _hide(value: Any, secrets: dict[str, tuple[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_hide(item, secrets) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = {}
    for key, item in value.items():
        if is_secret(key):
            placeholder = f"[redacted {len(secrets) + 1}]"
            secrets[placeholder] = key, item
            hidden[key] = placeholder
        else:
            hidden[key] = _hide(item, secrets)
    return hidden


def _restored(value: Any, secrets: dict[str, tuple[str, Any]], name: str, key: str | None = None) -> Any:
    if isinstance(value, str) and value in secrets:
        held, secret = secrets[value]
        if key != held:
            text = _("%(placeholder)s stands for a secret of the key %(key)s and can be used under that key only.")
            raise Unusable(text % {"placeholder": value, "key": held}, name)
        return secret
    if isinstance(value, list):
        return [_restored(item, secrets, name) for item in value]
    if isinstance(value, dict):
        return {each: _restored(item, secrets, name, each) for each, item in value.items()}
    return value


def _parsed(text: str, name: str, kind: type) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno, "problem": error.msg}
        raise Unusable(_("Line %(line)d, column %(column)d: %(problem)s.") % where, name) from None
    except (ValueError, RecursionError):
        raise Unusable(_("This is not JSON."), name) from None
    if not isinstance(value, kind):
        what = _("This must be a JSON array: [ ]") if kind is list else _("This must be a JSON object: { }")
        raise Unusable(what, name)
    return value


def _no_constant(constant: str) -> Any:
    raise ValueError(constant)


def _encoded(value: Any, name: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):  # a lone surrogate, a number beyond all numbers
        raise Unusable(_("This cannot be sent as JSON."), name) from None


def _pretty(value: Any) -> str:
    # A lone surrogate cannot be put on a page.
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _lines(text: str) -> str:
    """As a browser was given it: forms send CRLF, and a textarea drops the first line break."""
    return text.replace("\r\n", "\n").strip()
