"""Sealed tasks in the worker: their calls are opened before a run, and what a run leaves is sealed, or not told."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from django_taskq import registry
from django_taskq.conf import get_settings
from django_taskq.core.message import Message
from django_taskq.core.sealing import is_sealed_json
from django_taskq.exceptions import KeyMissing, TaskqError, Undecryptable, Unsealed
from django_taskq.sealed import MARK, opened_call, seal_call, seal_history
from django_taskq.worker.batches import deliveries_of
from django_taskq.worker.failure import describe, line_of
from django_taskq.worker.telling import name_of
from django_taskq.worker.unknown import key_missing

if TYPE_CHECKING:
    from django_taskq.broker.delivery import Delivery, Settlement
    from django_taskq.worker.executor import Executor
    from django_taskq.worker.work import Work


def bind(work: Work) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that is sealed, or should be. Raises Undecryptable, and what the task's `bind` raises."""
    message, task = work.message, work.task
    if not is_sealed_json(message.args):
        if not task.encrypt:  # no array, and not sealed either: InvalidArguments says so
            work.sealed = False
            return task.bind(message.args, message.kwargs)
        if not get_settings().encryption_accept_plain:
            raise Unsealed(
                f"{task.name} has encrypt=True, and its arguments came plain. If they were sent before it had, allow "
                "them with TASKQ['ENCRYPTION_ACCEPT_PLAIN'] until those have run; if not, somebody writes to your "
                "Redis."
            )
        _seal_now(work)
    return task.bind(*opened_call(message.id, message.task, message.args, message.kwargs))


def adopt(work: Work) -> None:
    """Seals a call that came plain and may, where it may end without being bound. Without a key it stays as it is."""
    if work.task.encrypt and not is_sealed_json(work.message.args) and get_settings().encryption_accept_plain:
        with contextlib.suppress(TaskqError):
            _seal_now(work)


def _seal_now(work: Work) -> None:
    """From now on it goes its way as if it had been sent sealed: to the next attempt, the records, a dead letter."""
    message, delivery = work.message, work.delivery
    seal_call(message)
    seal_history(message)
    named = dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=True))
    named.pop(b"k", None)
    named[b"a"] = message.args
    if message.history:
        named[b"h"] = msgspec.json.encode(message.history)
    delivery.fields = [part for pair in named.items() for part in pair]


def unbound(executor: Executor, work: Work, error: BaseException) -> Settlement:
    """The end of a call whose arguments cannot be had. Another worker may have a key that is missing here."""
    if not isinstance(error, Undecryptable):
        return executor.bury(work, describe(error), "invalid_arguments", error)
    if isinstance(error, KeyMissing):
        return key_missing(executor, work.delivery, Message.decode(work.delivery.fields), error)
    if isinstance(error, Unsealed):
        _hide_call(work)
    work.sealed = False  # the error is ours and tells nothing
    return executor.bury(work, describe(error), "unsealed" if isinstance(error, Unsealed) else "undecryptable", error)


def _hide_call(work: Work) -> None:
    """The raw message stays as it is, because it may be requeued; the records' columns need not repeat it."""
    try:
        seal_call(work.message)
    except TaskqError:
        work.message.args, work.message.kwargs = MARK, b"{}"
    seal_history(work.message)


# --- faults of the worker itself, which may tell what was run ---------------------------------------------------------


def hides(delivery: Delivery) -> bool:
    """Whether a call of the delivery is sealed, or should be."""
    for each in deliveries_of(delivery):
        named = dict(zip(each.fields[::2], each.fields[1::2], strict=False))
        task = registry.find(named.get(b"t", b"").decode("utf-8", "replace"))
        if is_sealed_json(named.get(b"a", b"")) or (task is not None and task.encrypt):
            return True
    return False


def log_fault(logger: logging.Logger, delivery: Delivery, fault: BaseException, text: str, **more: Any) -> None:
    """Which delivery, the text, and the fault's traceback; of a sealed call its class only."""
    name = name_of(delivery)
    if hides(delivery):
        logger.error("%s: %s: %s", name, text, line_of(describe(fault), hidden=True), **more)
    else:
        logger.error("%s: %s", name, text, exc_info=fault, **more)
