"""A settlement that Redis refuses by itself, reduced to what it cannot refuse."""

from __future__ import annotations

from django_taskq.announcements import dead_letter
from django_taskq.broker import scripts
from django_taskq.broker.delivery import Settlement, bury
from django_taskq.broker.keys import Keys
from django_taskq.core.activity import activity
from django_taskq.core.fields import pack_fields
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome, encode_outcome
from django_taskq.exceptions import MalformedMessage
from django_taskq.worker.failure import text_of


def as_refused(settlement: Settlement, problem: Exception, keys: Keys) -> Settlement | None:
    """A dead letter with the reason `refused`, its raw message kept; None where even that was refused before."""
    delivery = settlement.delivery
    if settlement.script is scripts.RELEASE or settlement.arguments[1] == "refused":
        return None
    try:
        message = Message.decode(delivery.fields)
    except MalformedMessage:
        message = Message(settlement.arguments[0], "?")
    key = keys.idempotency_of(message)
    outcome = Outcome(
        message.id, message.run, "failed", True, task=message.task, queue=delivery.lane.queue,
        error_class="django_taskq.exceptions.BrokerRefused", error_message=text_of(problem), reason="refused",
        raw=pack_fields(delivery.fields),
    )  # fmt: skip
    return bury(
        delivery, message.id, "refused", encode_outcome(outcome), activity("failed", message.task), key,
        then=dead_letter(message, delivery.lane.queue, "refused", problem),
    )  # fmt: skip
