"""Errors of tasks as Sentry's events: what they say, and who reports those that no attempt could report itself."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from django_taskq.exceptions import HardTimeout, TaskTimeout

# Dead letters of which no attempt ran into an error here: nothing passed through the middleware, or it died with its
# process.
NEVER_RAISED = frozenset(
    {"hard_timeout", "invalid_arguments", "malformed", "refused", "undecryptable", "unknown_task", "unknown_version"}
    | {"unsealed", "worker_lost"}
)


def describe(scope: Any, task: str, queue: str, **more: object) -> None:
    """Says in a scope's tags what it is about."""
    scope.set_transaction_name(task, source="task")
    for name, value in {"task": task, "queue": queue, **more}.items():
        scope.set_tag(f"taskq_{name}", str(value))


def report(error: BaseException, task: str) -> None:
    """An error as an event, in the scope that is open."""
    options, mechanism = sentry_sdk.get_client().options, {"type": "taskq", "handled": False}
    try:
        event, hint = event_from_exception(error, client_options=options, mechanism=mechanism)
        if issubclass(type(error), TaskTimeout):  # raised wherever the task happened to be: that is no kind of failure
            kind = "hard_timeout" if issubclass(type(error), HardTimeout) else "TaskTimeout"
            event["fingerprint"] = ["taskq", kind, task]
        sentry_sdk.capture_event(event, hint=hint)
    except BaseException as fault:  # noqa: BLE001 - a foreign exception may raise anything when it is looked at
        sentry_sdk.capture_message(f"{task} failed with an error that cannot be described ({type(fault)})", "error")


def dead_letter(sender: Any, task_id: str, queue: str, attempt: int, reason: str, error: Any, **_: Any) -> None:
    """A dead letter that the middleware knows nothing of: nothing ran, it was a call of a batch, or there was no time
    left for the attempt that was to follow.
    """
    unseen = reason in NEVER_RAISED or reason == "deadline" or getattr(sender, "batching", None) is not None
    if not unseen or not sentry_sdk.get_client().is_active():
        return
    if error is not None and said(error):
        return
    _report_settled(sender, task_id, queue, attempt, reason, error)


def killed(sender: Any, task_id: str, queue: str, attempt: int, error: Any, **_: Any) -> None:
    """An attempt that is tried again, but could not report its error: its process was killed for it."""
    if issubclass(type(error), HardTimeout) and sentry_sdk.get_client().is_active():
        _report_settled(sender, task_id, queue, attempt, "hard_timeout", error)


def _report_settled(sender: Any, task_id: str, queue: str, attempt: int, reason: str, error: Any) -> None:
    task = getattr(sender, "name", sender)
    with sentry_sdk.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        describe(scope, task, queue, task_id=task_id, attempt=attempt)
        scope.set_tag("taskq_reason", reason)
        if reason in NEVER_RAISED or error is None:
            scope.fingerprint = ["taskq", reason, task]
        if error is not None:
            report(error, task)
        else:
            sentry_sdk.capture_message(f"{task} is a dead letter: {reason}", level="error")


def said(error: BaseException) -> bool:
    """Whether this very error was reported before: all calls of a batch may have one in common. From now on it was."""
    before = bool(getattr(error, "_taskq_reported", False))
    try:
        error._taskq_reported = True  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a class with __slots__, or with ideas of its own: it is reported each time
        return before
    return before
