"""The outbox: calls that were written with a transaction and have not been sent yet."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from django_taskq.models.ended import QUEUE_LENGTH, TASK_LENGTH


class OutboxEntry(models.Model):
    """A call that was written in a transaction and waits for a relay, which sends it to Redis and deletes the row."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        REFUSED = "refused", _("refused")

    id = models.BigAutoField(primary_key=True)  # the order in which entries of a queue are sent
    task_id = models.UUIDField(_("task id"), unique=True)
    task = models.CharField(_("task"), max_length=TASK_LENGTH)
    queue = models.CharField(_("queue"), max_length=QUEUE_LENGTH)
    # Encoded by outbox.py. Never rendered as it is, because it is not redacted.
    call = models.BinaryField(_("call"))
    # On the database's clock, which also says how long it has waited.
    created_at = models.DateTimeField(_("written"), db_default=Now())
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING)
    error = models.TextField(_("error"), default="", blank=True, help_text=_("why it could not be sent the last time"))

    class Meta:
        verbose_name = _("outbox entry")
        verbose_name_plural = _("outbox")
        ordering = ("id",)
        permissions = (("send", _("Can have outbox entries sent again")),)
        indexes = (models.Index(fields=("state", "id"), name="taskq_outbox_state"),)

    def __str__(self) -> str:
        return f"{self.task} {self.task_id}"
