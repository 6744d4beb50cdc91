"""Everything that can go wrong, as an HTTP status and a code. The texts tell nothing about the site's insides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import UnreadablePostError

from django_taskq import exceptions as taskq
from django_taskq.requeue import RequeueRefused

AGAIN = {"Retry-After": "5"}


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        required: Sequence[str] = (),
        id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.required, self.id = headers or {}, list(required), id


def not_found(what: str, code: str = "not_found") -> ApiError:
    """404."""
    return ApiError(404, code, what)


def of(error: Exception) -> ApiError | None:
    """The answer for what our own code or Django raised; None for what nobody foresaw."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, taskq.BrokerUnavailable):
        full = isinstance(error, taskq.BrokerFull)
        code, text = ("broker_full", "is full") if full else ("broker_unavailable", "cannot be reached")
        return ApiError(503, code, f"The task queue's Redis {text}. Try again.", headers=AGAIN, id=error.id)
    if isinstance(error, OperationalError | InterfaceError):
        return ApiError(503, "database_unavailable", "The database cannot be used. Try again.", headers=AGAIN)
    if isinstance(error, taskq.RateLimited):
        return ApiError(429, "rate_limited", str(error), headers={"Retry-After": str(math.ceil(error.seconds))})
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return ApiError(status, code, str(error), headers=AGAIN if status == 429 else None)
    for kind, status, code, text in _SILENT:
        if isinstance(error, kind):
            return ApiError(status, code, text)
    return None


# The first that fits. Their texts are written for whoever made the call.
_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (taskq.TaskNotFound, 404, "unknown_task"),
    (taskq.UnknownQueue, 404, "unknown_queue"),
    (taskq.InvalidTask, 422, "invalid_options"),
    (taskq.InvalidArguments, 422, "invalid_arguments"),
    (taskq.PayloadTooLarge, 413, "payload_too_large"),
    (taskq.QueueFull, 429, "queue_full"),
    (taskq.KeyMissing, 409, "key_missing"),
    (taskq.Undecryptable, 409, "undecryptable"),
    (RequeueRefused, 409, "requeue_refused"),
)
_SILENT: tuple[tuple[type[Exception], int, str, str], ...] = (
    (taskq.BrokerRefused, 502, "broker_refused", "The task queue's Redis refused a command; the site's log has more."),
    (RequestDataTooBig, 413, "payload_too_large", "The body is larger than this site takes."),
    (UnreadablePostError, 400, "unreadable", "The body ended early."),
    (PermissionDenied, 403, "permission_denied", "This is not allowed."),
    (SuspiciousOperation, 400, "bad_request", "The request makes no sense."),
)
