"""Hides secrets in JSON before it is stored or shown: what keys such as `password` or `apiKey` hold, at any depth."""

from __future__ import annotations

import re
from typing import Any

import msgspec

REDACTED = "[redacted]"
UNREADABLE = '"[hidden: it names a secret and could not be read as JSON]"'

# Most arguments name no secret, so a few searches of the raw bytes decide whether to decode at all. (An alternation in
# one regular expression takes ten times as long.) A key may spell its letters as \u0070: such escapes deserve a look.
_HINTS = (b"passw", b"token", b"secret", b"authorization", b"card", b"\\u00")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])").sub
_SECRET = re.compile(r"(?<![a-z])(?:password|passwd|token|secret|authorization|api[^a-z]*key|card)s?(?![a-z])").search


def is_secret(key: str) -> bool:
    """Whether a key contains one of the words, as a word: `cardNumber` and `X-API-Key` do, `discard` does not."""
    return _SECRET(_CAMEL("_", key).lower()) is not None


def _suspect(raw: bytes) -> bool:
    lower = raw.lower()
    for hint in _HINTS:
        if hint in lower:
            return True
    return b"api" in lower and b"key" in lower


def redact_json(raw: bytes) -> bytes:
    """The JSON with each secret key's value replaced; unchanged, byte for byte, where there is none."""
    if not _suspect(raw):
        return raw
    try:
        value = msgspec.json.decode(raw)
        return msgspec.json.encode(value) if redact(value) else raw
    except (ValueError, RecursionError):  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        return UNREADABLE.encode()


# In free text: `password=...`, `"apiKey": "..."`, `Authorization: Bearer ...`, and `redis://:...@host`.
_NAMED = re.compile(
    r"""(?<![\w.-])(?=[\w.-]*?(?:passw|token|secret|authorization|api|card))"""
    r"""(?P<key>[\w.-]++)(?P<sign>["']?\s*+[:=]\s*+)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|(?:(?:bearer|basic|token)\s+)?[^\s,;&)\]}]+)""",
    re.IGNORECASE,
).sub
_IN_URL = re.compile(r"(?<=://)(?P<user>[^\s/:@]*+:)[^\s/@]++(?=@)").sub


def redact_text(text: str) -> str:
    """A line of text with what stands behind the names of secrets replaced. What has no name cannot be known."""
    if "://" in text:
        text = _IN_URL(rf"\g<user>{REDACTED}", text)
    return _NAMED(_hide, text) if _suspect(text.encode("utf-8", "replace")) else text


def _hide(found: re.Match[str]) -> str:
    key, sign, value = found["key"], found["sign"], found["value"]
    return f"{key}{sign}{REDACTED if is_secret(key) else redact_text(value)}"


def redact(value: Any) -> bool:
    """Replaces the values of secret keys inside `value`, in place and at any depth; whether there were any."""
    found = False
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item:
                if isinstance(key, str) and is_secret(key):
                    item[key] = REDACTED
                    found = True
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return found
