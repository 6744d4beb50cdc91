"""What this worker cannot run and another may: a task or a version of the message that came with a later deployment.

Such a message goes back to the schedule as it is, for a while, and becomes a dead letter when nobody could run it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django_taskq import announcements
from django_taskq.broker.delivery import Delivery, Settlement, bury, complete, retry
from django_taskq.broker.found import Found, cancelled_outcome
from django_taskq.core.activity import activity
from django_taskq.core.fields import put_off, unknown_since
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message, UnknownVersion
from django_taskq.core.outcome import encode_outcome
from django_taskq.core.states import State
from django_taskq.exceptions import KeyMissing
from django_taskq.logs import fields_of_message
from django_taskq.worker.failure import Failure
from django_taskq.worker.outcomes import failure_outcome

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor

logger = logging.getLogger("django_taskq.worker.tasks")

UNKNOWN_GRACE = 600.0  # seconds: how long a deployment may take
SHORTEST, LONGEST = 5.0, 60.0  # seconds between two looks


def unknown_task(executor: Executor, delivery: Delivery, message: Message) -> Settlement:
    """No task of that name is registered here."""
    text = f"No worker knew a task named {message.task!r} for {UNKNOWN_GRACE:.0f} s. Is its module imported?"
    return _end_or_wait(executor, delivery, message, "unknown_task", "no task of this name is registered", text)


def unknown_version(executor: Executor, delivery: Delivery, error: UnknownVersion) -> Settlement:
    """The message was sent by a later version of this package."""
    text = f"{error} No worker knew that version for {UNKNOWN_GRACE:.0f} s. Are all workers updated?"
    return _end_or_wait(executor, delivery, error.envelope, "unknown_version", str(error), text)


def key_missing(executor: Executor, delivery: Delivery, message: Message, error: KeyMissing) -> Settlement:
    """Its arguments are sealed with a key that this process does not have: one of a rotation under way, perhaps."""
    text = f"{error} No worker had it for {UNKNOWN_GRACE:.0f} s. Is the key in the settings of all workers?"
    return _end_or_wait(executor, delivery, message, "undecryptable", str(error), text)


def _end_or_wait(
    executor: Executor, delivery: Delivery, message: Message, reason: str, why: str, text: str
) -> Settlement:
    now = executor.clock.now()
    since = unknown_since(delivery.fields, int(now * 1000))
    waited = now - since / 1000
    about = fields_of_message(message, delivery.lane.queue, executor.worker)
    message.losses += delivery.losses
    if delivery.cancelled:
        return _cancelled(executor, delivery, message)
    if waited >= UNKNOWN_GRACE:
        logger.error("%s %s unknown: %s; dead letter", message.task, id_to_str(message.id), text, extra=about)
        outcome = failure_outcome(executor, delivery, message, Failure("", text, ""), reason)
        counted = activity("failed", message.task)
        tell = announcements.dead_letter(message, delivery.lane.queue, reason)
        key = executor.key_of(message)
        return bury(delivery, message.id, reason, encode_outcome(outcome), counted, key, then=tell)
    delay = min(LONGEST, max(SHORTEST, waited / 2))
    logger.warning(
        "%s %s unknown here: %s; again in %.0f s, dead letter after %.0f s",
        message.task, id_to_str(message.id), why, delay, UNKNOWN_GRACE - waited, extra=about,
    )  # fmt: skip
    sent = message.enqueued or int(delivery.entry.partition(b"-")[0])
    fields = put_off(delivery.fields, since, sent, message.losses)
    return retry(
        delivery, message.id, delay, fields, activity("retried", message.task),
        instead=lambda: _cancelled(executor, delivery, message),
    )  # fmt: skip


def _cancelled(executor: Executor, delivery: Delivery, message: Message) -> Settlement:
    lane = delivery.lane
    found = Found(State.RUNNING, lane.queue, delivery.location, message, priority=lane.priority)
    outcome = cancelled_outcome(found, "cancelled before a worker could run it", executor.clock.now())
    counted, tell = activity("cancelled", message.task), announcements.cancelled(message, lane.queue, outcome.reason)
    return complete(
        delivery, message.id, outcome.status, encode_outcome(outcome), counted, executor.key_of(message), then=tell
    )
