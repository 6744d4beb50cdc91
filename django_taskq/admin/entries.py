"""Entries in the admin's log: who did what, to one row, or to so many of a model."""

from __future__ import annotations

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest


def write_entry(
    request: HttpRequest, model: type[Model], message: str, *, key: str | None, text: str, flag: int = CHANGE
) -> LogEntry:
    """`key` names the one it was done to, None stands for many; `text` is what the log calls it, or counts them."""
    return LogEntry.objects.create(
        user_id=request.user.pk or 0,
        # A proxy's own, as Django's pages look for it: that of the model behind it has a history of its own.
        content_type_id=ContentType.objects.get_for_model(model, for_concrete_model=False).pk,
        object_id=key,
        object_repr=text[:200],
        action_flag=flag,
        change_message=message,
    )
