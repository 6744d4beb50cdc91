"""TLS with a pinned certificate: the server's own certificate must have the given SHA-256 fingerprint."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from typing import Any

import redis


class PinnedConnection(redis.SSLConnection):
    """A TLS connection that is refused unless the server's certificate has `fingerprint` (hex, colons allowed)."""

    def __init__(self, *, fingerprint: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._fingerprint = fingerprint.replace(":", "").lower()

    def _connect(self) -> ssl.SSLSocket:
        sock: ssl.SSLSocket = super()._connect()  # type: ignore[no-untyped-call]
        found = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(found, self._fingerprint):
            sock.close()
            raise redis.exceptions.ConnectionError(
                f"The server's certificate has the SHA-256 fingerprint {found}, not the pinned one."
            )
        return sock
