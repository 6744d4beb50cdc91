"""`manage.py taskq_token`: makes, lists and revokes tokens for the JSON API."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from django_taskq.api import tokens
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.management.table import span, table
from django_taskq.models import ApiToken

LISTED = 1000
MOST_DAYS = 36_500.0


class Command(TaskqCommand):
    help = (
        "create NAME: prints a new token of --user, which is not to be had a second time. list: the newest tokens. "
        "revoke PREFIX...: these open nothing any more; the prefix is the part between the underscores."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """A name for create, prefixes for revoke."""
        add = parser.add_argument
        add("action", choices=("create", "list", "revoke"))
        add("words", nargs="*", metavar="NAME | PREFIX", help="what a new token is for; or which to revoke")
        add("--user", metavar="NAME", help="whose permissions it has, or whose tokens to list")
        add("--expires", type=at_least(0.0, MOST_DAYS), metavar="DAYS", help="after so many days (default: never)")
        add("--json", action="store_true", help="list: print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatches to the action."""
        action, words = options["action"], options["words"]
        if action == "create":
            self._create(words, options["user"], options["expires"])
        elif action == "list":
            self._list(options["user"], as_json=options["json"])
        else:
            self._revoke(words)

    def _create(self, words: list[str], username: str | None, days: float | None) -> None:
        if len(words) != 1 or not words[0].strip() or username is None:
            raise CommandError("create takes a name for the token, and --user.")
        expires = None if days is None else timezone.now() + timedelta(days=days)
        row, text = tokens.create(_user(username), words[0][:100], expires)
        self.stdout.write(text)  # alone, so that it can be piped into whatever keeps secrets
        when = "It does not expire." if expires is None else f"It expires at {expires:%Y-%m-%d %H:%M %Z}."
        self.stderr.write(f"{row}: token of {username}. {when} It cannot be shown again.", style_func=str)

    def _list(self, username: str | None, *, as_json: bool) -> None:
        rows = ApiToken.objects.select_related("user")
        if username is not None:
            rows = rows.filter(user=_user(username))
        found = list(rows[: LISTED + 1])
        if as_json:
            self.stdout.write(json.dumps([_described(row) for row in found[:LISTED]]))
        elif not found:
            self.stdout.write("No tokens.")
        else:
            cells = [
                (row.prefix, row.name, row.user.get_username(), _ago(row.created_at), _ago(row.used_at), _state(row))
                for row in found[:LISTED]
            ]
            self.stdout.write(table(("PREFIX", "NAME", "USER", "AGE", "LAST USED", "STATE"), cells, right=(3, 4)))
        if len(found) > LISTED:
            self.stderr.write(f"These are the newest {LISTED}.", style_func=str)

    def _revoke(self, prefixes: list[str]) -> None:
        if not prefixes:
            raise CommandError("revoke takes prefixes, as `list` shows them.")
        known = {row.prefix: row for row in ApiToken.objects.filter(prefix__in=prefixes)}
        for prefix in prefixes:
            if prefix not in known:
                raise CommandError(f"No token has the prefix {prefix!r}. Nothing was changed.")
        for prefix, row in known.items():
            self.stdout.write(f"{prefix} {'is revoked.' if tokens.revoke(row) else 'was revoked before.'}")


def _user(username: str) -> Any:
    model = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(username)
    except model.DoesNotExist:
        raise CommandError(f"There is no user {username!r}.") from None


def _described(row: ApiToken) -> dict[str, Any]:
    times = ("created_at", "used_at", "expires_at", "revoked_at")
    return {
        "prefix": row.prefix, "name": row.name, "user": row.user.get_username(), "state": _state(row),
        **{name: value and value.isoformat() for name in times for value in [getattr(row, name)]},
    }  # fmt: skip


def _state(row: ApiToken) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if not row.is_usable:
        return "expired"
    return "usable" if row.user.is_active else "user inactive"


def _ago(value: datetime | None) -> str:
    return span(None if value is None else (timezone.now() - value).total_seconds())
