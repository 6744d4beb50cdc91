"""Sealing: values encrypted and authenticated, as text that JSON, Redis and any database carry.

A sealed value reads `$sealed:1:<key id>:<base64 of nonce and ciphertext>`. It is AES-256-GCM (NIST SP 800-38D) with a
random nonce of 96 bits. What it belongs to is authenticated with it: moved to another task, another run or another
field it cannot be opened. Random nonces may be drawn 2^32 times for one key, so each task has a key of its own, made
from the key with HMAC-SHA256: however many tasks there are, no key is worn out.
"""

from __future__ import annotations

import binascii
import hmac
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.exceptions import KeyMissing, Undecryptable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "$sealed:1:"
KEY_BYTES = 32
NONCE_BYTES = 12

_JSON_PREFIX = f'"{PREFIX}'.encode()
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_DERIVE = b"django_taskq sealed 1\0"
_MARK = b"django_taskq mark 1\0"


class Place(NamedTuple):
    """What a value belongs to. `run` 0: to all runs of the task."""

    id: bytes  # 16 bytes
    task: str
    kind: str
    run: int = 0


class Keyring:
    """Keys by their ids. The first one seals, all of them open. Used by any number of threads."""

    def __init__(self, keys: Mapping[str, bytes | None]) -> None:
        """Keys are 32 bytes; None for one that is known to exist and is not here. Raises ImportError."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys, self._first = dict(keys), next(iter(keys), "")
        self._cipher: type[AESGCM] = AESGCM
        self._invalid: type[Exception] = InvalidTag

    @property
    def first(self) -> str:
        """The id of the key that seals; '' where there is none."""
        return self._first

    def seal(self, place: Place, plain: bytes) -> str:
        """Raises KeyMissing where the first key is not here."""
        cipher, nonce = self._cipher_of(self._first, place.id), os.urandom(NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, plain, _bound(place, self._first))
        return f"{PREFIX}{self._first}:{binascii.b2a_base64(sealed, newline=False).decode()}"

    def open(self, place: Place, sealed: str) -> bytes:
        """The inverse; KeyMissing for a key that is not here, Undecryptable for all that was not sealed for there."""
        key_id = key_id_of(sealed)
        cipher, text = self._cipher_of(key_id, place.id), sealed[len(PREFIX) + len(key_id) + 1 :]
        try:
            raw = binascii.a2b_base64(text, strict_mode=True)
            # Base64 has several spellings of some values, and only one was made here.
            if binascii.b2a_base64(raw, newline=False).decode() == text:
                nonce, data = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
                return cipher.decrypt(nonce, data, _bound(place, key_id))
        except (ValueError, self._invalid):
            pass
        raise Undecryptable(
            f"{place.task}: its {place.kind} was not sealed for it with the key {key_id!r}, or was altered since."
        )

    def marks(self, id: bytes, plain: bytes) -> list[str]:
        """Short names of a value, one by each key that is here, the first key's first; by HMAC-SHA256, cut."""
        return [hmac.digest(key, _MARK + id + plain, "sha256")[:8].hex() for key in self._keys.values() if key]

    def _cipher_of(self, key_id: str, id: bytes) -> AESGCM:
        """Apart from its callers, so that no frame of an error has a key among its variables: reporters send those."""
        key = self._keys.get(key_id)
        if key is None:
            raise KeyMissing(key_id=key_id)
        return self._cipher(_own_key(key, id))


def is_key_id(text: object) -> bool:
    """Whether a key may be called that: 1 to 32 letters, digits, `_`, `.` and `-`."""
    return isinstance(text, str) and _KEY_ID.fullmatch(text) is not None


def is_sealed(text: str) -> bool:
    """Whether a text claims to be sealed."""
    return text.startswith(PREFIX)


def is_sealed_json(raw: bytes | str) -> bool:
    """Whether the JSON of arguments or of a result claims to be sealed."""
    return raw.startswith(_JSON_PREFIX) if isinstance(raw, bytes) else raw.startswith(_JSON_PREFIX.decode())


def key_id_of(sealed: str) -> str:
    """The key that a sealed text names; Undecryptable where it names none."""
    key_id, colon, _ = sealed.removeprefix(PREFIX).partition(":") if is_sealed(sealed) else ("", "", "")
    if not colon or not is_key_id(key_id):
        raise Undecryptable("This is not a sealed value, or it was cut.")
    return key_id


def to_json(sealed: str) -> bytes:
    """As a JSON string. (No character of it needs an escape.)"""
    return f'"{sealed}"'.encode()


def from_json(raw: bytes | str) -> str:
    """The inverse. Whatever else it is given cannot be opened."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else ""


def parse_key(text: str) -> bytes:
    """A key from the base64 of its 32 bytes; ValueError, which does not show it."""
    try:
        key = binascii.a2b_base64(text.strip().translate({ord("-"): "+", ord("_"): "/"}), strict_mode=True)
    except ValueError:
        raise ValueError("is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def new_key() -> str:
    """A random key, in base64."""
    return binascii.b2a_base64(os.urandom(KEY_BYTES), newline=False).decode()


def _own_key(key: bytes, id: bytes) -> bytes:
    return hmac.digest(key, _DERIVE + id, "sha256")


def _bound(place: Place, key_id: str) -> bytes:
    """The associated data. The name comes last, because only it has no bounds of its own."""
    return b"%b%b" % (place.id, f"{key_id}\0{place.kind}\0{place.run}\0{place.task}".encode("utf-8", "surrogatepass"))
