"""Who did what: an entry in the admin's log for each unsafe call, as the admin's own buttons write them."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.db import DatabaseError, models, router, transaction

from django_taskq.api.auth import Actor

logger = logging.getLogger("django_taskq.api")


def log(
    actor: Actor, model: type[models.Model], object_id: Any, text: str, message: str, *, added: bool = False
) -> None:
    """`text` names the object, or how many. What was done stays done when the log cannot be written."""
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    if actor.token is not None:
        message = f"{message} (API token {actor.token})"
    try:
        with transaction.atomic(using=router.db_for_write(LogEntry)):
            LogEntry.objects.create(
                user_id=actor.user.pk,
                content_type_id=ContentType.objects.get_for_model(model, for_concrete_model=False).pk,
                object_id=None if object_id is None else str(object_id),
                object_repr=text[:200],
                action_flag=ADDITION if added else CHANGE,
                change_message=message,
            )
    except DatabaseError:
        logger.exception("%s by %s could not be logged: %s", message, actor.user, text)
