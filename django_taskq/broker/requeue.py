"""Requeues many messages in two round trips: one sends them, one asks about those that were refused."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from django_taskq.broker import broker as producers
from django_taskq.broker import scripts
from django_taskq.broker.broker import Broker
from django_taskq.broker.connection import Call, retrying
from django_taskq.broker.found import Found
from django_taskq.broker.submission import Submission
from django_taskq.core.message import Message
from django_taskq.exceptions import BrokerFull, BrokerUnavailable, TaskqError


class Answer(StrEnum):
    """What Redis says to a message that is to start a new run."""

    SENT = "sent"
    BEFORE = "before"  # that run, or a later one, had been sent
    BUSY = "busy"  # its id is on its way in an earlier run


def requeue_messages(broker: Broker, messages: Sequence[tuple[Message, str]]) -> list[Answer | TaskqError]:
    """What came of each message and its queue; `run` of a message is the new one. Give it 500 at most.

    A message is sent whole or not at all, and once however often this is repeated, which it is for at most 10 s while
    Redis is away. Raises BrokerUnavailable after that: some may have been sent.
    """
    calls: list[Call] = [(scripts.REQUEUE, _arguments(broker, message, queue)) for message, queue in messages]
    attempts = 0

    def attempt() -> list[Any]:
        nonlocal attempts
        attempts += 1
        return _run(broker, calls)

    replies = retrying(attempt, producers.PRODUCER_PATIENCE)
    answers: list[Answer | TaskqError] = [
        reply if isinstance(reply, TaskqError) else Answer.SENT if reply else Answer.BUSY for reply in replies
    ]
    refused = [position for position, answer in enumerate(answers) if answer is Answer.BUSY]
    if refused:
        found = broker.find([messages[position][0].id for position in refused])
        for position, place in zip(refused, found, strict=True):
            answers[position] = _refusal(messages[position][0], place, repeated=attempts > 1)
    return answers


def _refusal(message: Message, found: Found, *, repeated: bool) -> Answer:
    """Why a message was refused. One that is there after a repetition is the one that the first attempt sent."""
    held = found.message or found.outcome
    if held is None or held.run < message.run:
        return Answer.BUSY
    return Answer.SENT if repeated and held.run == message.run else Answer.BEFORE


def _arguments(broker: Broker, message: Message, queue: str) -> list[Any]:
    submission = Submission(message, queue)
    return [*broker.lanes.head(*submission.place), message.run, *broker.lanes.admission(submission)]


def _run(broker: Broker, calls: Sequence[Call]) -> list[Any]:
    """Replies, and errors that concern single messages. Raises BrokerUnavailable."""
    replies = broker.connections.run_many(calls)
    for reply in replies:
        if isinstance(reply, BrokerUnavailable) and not isinstance(reply, BrokerFull):
            raise reply
    return replies
