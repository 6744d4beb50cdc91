"""The id of a request goes with the tasks that it sends, and with those that they send in turn.

MIDDLEWARE = ["django_taskq.middleware.request_id.RequestIdMiddleware", ...]                # Django's
TASKQ = {"MIDDLEWARE": ["django_taskq.middleware.request_id.request_id", ...]}

`current_request_id.get()` is the id, here and there, '' without one. TaskContextFilter puts it on log records.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_taskq.context import TaskContext, current_request_id
from django_taskq.middleware.base import Factory, around
from django_taskq.middleware.headers import header_of

__all__ = ["RequestIdMiddleware", "current_request_id", "request_id"]

HEADER = "context:request_id"
HTTP_HEADER = "X-Request-ID"
# It ends up in logs, headers and pages: nothing that could mean something there.
_USABLE = re.compile(r"[A-Za-z0-9._:+=/@-]{1,128}").fullmatch


class RequestIdMiddleware:
    """Django middleware: the id that a proxy gave the request in X-Request-ID, or a new one. The response has it."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        with _identified(_id_of(request)) as id:
            response: HttpResponseBase = self.get_response(request)
            return _marked(response, id)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with _identified(_id_of(request)) as id:
            return _marked(await self.get_response(request), id)


def _id_of(request: HttpRequest) -> str:
    given = request.headers.get(HTTP_HEADER, "")
    return given if _USABLE(given) else uuid.uuid4().hex


def _marked(response: HttpResponseBase, id: str) -> HttpResponseBase:
    response.headers.setdefault(HTTP_HEADER, id)
    return response


@contextmanager
def _identified(id: str) -> Iterator[str]:
    token = current_request_id.set(id)
    try:
        yield id
    finally:
        current_request_id.reset(token)


@contextmanager
def _attempt(context: TaskContext) -> Iterator[None]:
    given = header_of(context, HEADER)
    with _identified(given if _USABLE(given) else ""):
        yield


def _headers(*_: Any) -> dict[str, str]:
    id = current_request_id.get()
    return {HEADER: id} if id else {}


request_id: Factory = around(_attempt)
request_id.headers = _headers  # type: ignore[attr-defined]
