"""The records: how every task ended (TaskResult) and the failed ones that wait for a decision (DeadTask).

Rows are written by the recorder alone, in bulk and past the ORM (bulk.py); a person only requeues or discards a dead
letter. JSON is kept as text: what was sent is what is shown, on every database, and the recorder never parses it.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_taskq.core.states import State

TASK_LENGTH = 255
QUEUE_LENGTH = 128
WORKER_LENGTH = 128
ERROR_CLASS_LENGTH = 255
REASON_LENGTH = 255


class Ended(models.Model):
    """The columns that a result and a dead letter share. Times are on Redis' clock."""

    run = models.PositiveIntegerField(_("run"), default=1, help_text=_("1, and one more for each time it was requeued"))
    task = models.CharField(_("task"), max_length=TASK_LENGTH)
    queue = models.CharField(_("queue"), max_length=QUEUE_LENGTH)
    priority = models.SmallIntegerField(_("priority"), default=0)
    args = models.TextField(_("arguments"), default="[]", help_text=_("JSON array, secrets redacted"))
    kwargs = models.TextField(_("keyword arguments"), default="{}", help_text=_("JSON object, secrets redacted"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    losses = models.PositiveIntegerField(_("lost workers"), default=0)
    worker = models.CharField(_("worker"), max_length=WORKER_LENGTH, default="", blank=True)
    reason = models.CharField(_("reason"), max_length=REASON_LENGTH, default="", blank=True)
    error_class = models.CharField(_("error class"), max_length=ERROR_CLASS_LENGTH, default="", blank=True)
    error_message = models.TextField(_("error"), default="", blank=True)
    traceback = models.TextField(_("traceback"), default="", blank=True)
    history = models.TextField(_("history"), default="[]", help_text=_("JSON: the last attempts before the final one"))
    # A default in the database too: workers of the version before do not name the column.
    log = models.TextField(_("log"), default="", db_default="", blank=True, help_text=_("the last lines it logged"))
    enqueued_at = models.DateTimeField(_("enqueued"), null=True, blank=True)
    first_started_at = models.DateTimeField(_("first started"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True, help_text=_("of the last attempt"))

    class Meta:
        abstract = True

    @property
    def attempts_history(self) -> list[dict[str, Any]]:
        """`history`, read: number, started, ended (epoch seconds), worker, how, error_class, error_message..."""
        try:
            attempts = json.loads(self.history)
        except ValueError:
            return []
        return [attempt for attempt in attempts if isinstance(attempt, dict)] if isinstance(attempts, list) else []


class TaskResult(Ended):
    """How a task ended, one row per task id; a requeued task's row is that of its newest run."""

    class Status(models.TextChoices):
        SUCCEEDED = State.SUCCEEDED.value, _("succeeded")
        FAILED = State.FAILED.value, _("failed")
        CANCELLED = State.CANCELLED.value, _("cancelled")
        EXPIRED = State.EXPIRED.value, _("expired")
        DISCARDED = State.DISCARDED.value, _("discarded")

    id = models.UUIDField(_("id"), primary_key=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices)
    result = models.TextField(_("result"), null=True, blank=True, help_text=_("JSON; empty for None"))  # noqa: DJ001
    result_error = models.TextField(_("result error"), default="", blank=True)
    finished_at = models.DateTimeField(_("finished"))
    wait = models.FloatField(_("wait"), null=True, blank=True, help_text=_("seconds from ready to first started"))
    duration = models.FloatField(_("duration"), null=True, blank=True, help_text=_("seconds the last attempt ran"))
    # JSON: what django.tasks knows of a call besides. Null in all other rows, so that they pay nothing for it.
    origin = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001

    class Meta:
        verbose_name = _("task result")
        verbose_name_plural = _("task results")
        ordering = ("-finished_at", "-id")
        permissions = (
            ("view_arguments", _("Can view arguments and results of tasks")),
            ("monitor", _("Can view overview, queues and workers")),
            ("cancel", _("Can cancel tasks")),
            ("pause", _("Can pause and resume queues")),
            ("purge", _("Can purge queues")),
            ("control", _("Can quiet and stop workers")),
        )
        # Each serves a list, newest first, and each costs the recorder a write per row: hence no index on what most
        # rows share (an empty error class), and none on columns that only sort. What may be chosen besides comes last,
        # so that it is counted and passed over without a look at the rows, which are wide.
        indexes = (
            models.Index(fields=("finished_at",), name="taskq_result_finished"),
            models.Index(fields=("status", "finished_at"), name="taskq_result_status"),
            models.Index(fields=("queue", "finished_at", "status"), name="taskq_result_queue"),
            models.Index(fields=("task", "finished_at", "status", "queue"), name="taskq_result_task"),
            models.Index(
                fields=("error_class", "finished_at", "task", "queue", "status"),
                name="taskq_result_error",
                condition=models.Q(error_class__gt=""),
            ),
        )

    def __str__(self) -> str:
        return f"{self.task} {self.id}"


class DeadTask(Ended):
    """A dead letter: a run that failed for good, and whether somebody has dealt with it."""

    class State(models.TextChoices):
        DEAD = "dead", _("dead")
        REQUEUED = "requeued", _("requeued")
        DISCARDED = "discarded", _("discarded")

    id = models.BigAutoField(primary_key=True)
    task_id = models.UUIDField(_("task id"))
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.DEAD)
    fingerprint = models.CharField(_("fingerprint"), max_length=16, help_text=_("equal for failures of one kind"))
    failed_at = models.DateTimeField(_("failed"))
    closed_at = models.DateTimeField(_("requeued or discarded"), null=True, blank=True)
    # Whole, because requeueing needs it; never rendered, because it is not redacted.
    raw = models.BinaryField(_("raw message"), default=b"")

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ("-failed_at", "-id")
        permissions = (
            ("requeue", _("Can requeue dead letters")),
            ("discard", _("Can discard dead letters")),
        )
        constraints = (models.UniqueConstraint(fields=("task_id", "run"), name="taskq_dead_task_id_run"),)
        indexes = (
            models.Index(fields=("failed_at",), name="taskq_dead_failed"),
            models.Index(fields=("state", "failed_at"), name="taskq_dead_state"),
            models.Index(fields=("state", "fingerprint", "failed_at"), name="taskq_dead_fingerprint"),
            models.Index(fields=("task", "failed_at", "state"), name="taskq_dead_task"),
            models.Index(fields=("queue", "failed_at", "state"), name="taskq_dead_queue"),
            models.Index(fields=("reason", "failed_at", "state"), name="taskq_dead_reason"),
            models.Index(fields=("error_class", "failed_at", "state"), name="taskq_dead_error"),
        )

    def __str__(self) -> str:
        return f"{self.task} {self.task_id} run {self.run}"
