"""What cannot be read as a message: a dead letter with its raw bytes.

It is found under its own id where the index says that this entry is that task, as for what `delay()` sent. A foreign
producer's entry may carry anybody's id: such a dead letter gets an id made from stream and entry.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_taskq.announcements import dead_letter
from django_taskq.broker.delivery import Delivery, Settlement, bury
from django_taskq.core.activity import activity
from django_taskq.core.fields import envelope_of
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.core.outcome import encode_outcome
from django_taskq.exceptions import MalformedMessage
from django_taskq.logs import fields_of_message
from django_taskq.sealed import seal_outcome
from django_taskq.worker.failure import describe, line_of
from django_taskq.worker.outcomes import failure_outcome
from django_taskq.worker.sealing import hides

if TYPE_CHECKING:
    from django_taskq.worker.executor import Executor

logger = logging.getLogger("django_taskq.worker.tasks")


def malformed(executor: Executor, delivery: Delivery, error: BaseException) -> Settlement:
    """How a delivery ends that nobody can run. Never raises."""
    failure = describe(error)
    # A fault in the middle of a run may tell what was run.
    hidden = not isinstance(error, MalformedMessage) and hides(delivery)
    derived = hashlib.sha256(f"{delivery.lane.name} {delivery.entry.decode()}".encode()).digest()[:16]

    def under(message: Message) -> Settlement:
        outcome = failure_outcome(executor, delivery, message, failure, "malformed")
        if hidden:
            seal_outcome(outcome, message.task)
        tell = _told(executor, delivery, message, line_of(failure, hidden=True) if hidden else failure.message, error)
        return bury(
            delivery, message.id, "malformed", encode_outcome(outcome), activity("failed", message.task),
            executor.key_of(message), then=tell, instead=lambda: under(Message(derived, message.task)),
        )  # fmt: skip

    try:
        return under(envelope_of(delivery.fields))
    except MalformedMessage:
        return under(Message(derived, "?"))


def _told(
    executor: Executor, delivery: Delivery, message: Message, what: str, error: BaseException
) -> Callable[[], None]:
    signal = dead_letter(message, delivery.lane.queue, "malformed", error)

    def tell() -> None:
        logger.error(
            "%s %s malformed: entry %s of queue %s: %s; kept as a dead letter",
            message.task, id_to_str(message.id), delivery.entry.decode(), delivery.lane.queue, what,
            extra=fields_of_message(message, delivery.lane.queue, executor.worker),
        )  # fmt: skip
        signal()

    return tell
