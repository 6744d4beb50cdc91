"""Who did what: an entry in the admin's log and a signal for each unsafe call, as the admin's buttons leave them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from django.apps import apps
from django.db import DatabaseError, InterfaceError, models, router, transaction

from django_taskq.api.auth import Actor
from django_taskq.signals import operator_action

logger = logging.getLogger("django_taskq.api")


class Target(NamedTuple):
    """What something was done to. `id` is None for many; `text` names it, or says how many."""

    model: type[models.Model]
    id: Any
    text: str
    name: str = ""  # for the signal, where that is not the id


def log(actor: Actor, action: str, target: Target, message: str, *, count: int = 1) -> None:
    """`count`: how many were touched; nothing is logged without any. `action` is one word, as operator_action has it.

    What was done stays done when the log cannot be written.
    """
    if not count:
        return
    name = target.name or ("" if target.id is None else str(target.id))
    operator_action.send_robust(sender=action, user=actor.user, target=name, count=count)
    if not apps.is_installed("django.contrib.admin"):
        return
    if actor.token is not None:
        message = f"{message} (API token {actor.token})"
    try:
        _write(actor, action, target, message)
    except (DatabaseError, InterfaceError):
        logger.exception("%s by %s could not be logged: %s", message, actor.user, target.text)


def _write(actor: Actor, action: str, target: Target, message: str) -> None:
    from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    with transaction.atomic(using=router.db_for_write(LogEntry)):
        LogEntry.objects.create(
            user_id=actor.user.pk,
            content_type_id=ContentType.objects.get_for_model(target.model, for_concrete_model=False).pk,
            object_id=None if target.id is None else str(target.id),
            object_repr=target.text[:200],
            action_flag=ADDITION if action == "submit" else CHANGE,
            change_message=message,
        )
