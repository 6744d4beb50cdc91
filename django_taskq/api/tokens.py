"""Bearer tokens: `taskq_<prefix>_<secret>`. The prefix finds the row, the digest of the whole proves it.

The secret has 256 random bits, so one round of SHA-256 keeps it (nobody can try that many), and a slow hash would only
make every request slow. The digest is compared in constant time, whether the prefix is known or not.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from django_taskq.models import ApiToken

USED = dt.timedelta(minutes=1)  # a token in use costs a write a minute, not one a request
_FORM = re.compile(r"taskq_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_NOBODY = "0" * 64


def create(user: Any, name: str, expires_at: dt.datetime | None = None) -> tuple[ApiToken, str]:
    """A new token with the permissions of `user`, and its text, which is not to be had a second time."""
    row = ApiToken(user=user, name=name, expires_at=expires_at)
    text = prepare(row)
    row.save()
    return row, text


def prepare(row: ApiToken) -> str:
    """Makes a row that is not saved yet the row of a new token; returns the token's text."""
    row.prefix = secrets.token_hex(6)
    text = f"taskq_{row.prefix}_{secrets.token_urlsafe(32)}"
    row.digest = _digest(text)
    return text


def find(text: str) -> ApiToken | None:
    """The usable token of that text, of an active user; notes that it was used."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    row = ApiToken.objects.select_related("user").filter(prefix=match[1]).first()
    right = constant_time_compare(_digest(text), _NOBODY if row is None else row.digest)
    if row is None or not right or not row.is_usable or not row.user.is_active:
        return None
    _note_use(row)
    return row


def revoke(row: ApiToken) -> bool:
    """Closes the API to a token, for good; False when it had been."""
    return ApiToken.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=timezone.now()) == 1


def _note_use(row: ApiToken) -> None:
    now = timezone.now()
    if row.used_at is None or now - row.used_at >= USED:
        stale = Q(used_at=None) | Q(used_at__lte=now - USED)
        ApiToken.objects.filter(stale, pk=row.pk).update(used_at=now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
