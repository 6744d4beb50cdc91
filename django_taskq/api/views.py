"""From a request to its answer. Whatever happens, the answer is JSON."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from django.core import signals
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.log import log_response
from django.views.decorators.csrf import csrf_exempt

from django_taskq.api import errors, openapi
from django_taskq.api.auth import authenticate
from django_taskq.api.decode import arguments, refuse_multipart
from django_taskq.api.errors import ApiError
from django_taskq.api.routes import ROUTES, Route
from django_taskq.api.schemas import Error, Failure

View = Callable[..., HttpResponse]
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
DOCUMENT = "openapi.json"

logger = logging.getLogger("django_taskq.api")
_encode = msgspec.json.Encoder().encode


def by_path(routes: Iterable[Route] = ROUTES) -> dict[str, dict[str, Route]]:
    """Path -> method -> route."""
    found: dict[str, dict[str, Route]] = defaultdict(dict)
    for route in routes:
        found[route.path][route.method] = route
    return found


def view_of(methods: dict[str, Route]) -> View:
    """The view of one path."""
    return _view({method: _answering(route) for method, route in methods.items()})


def unknown(_: HttpRequest, rest: str) -> HttpResponse:
    """Whatever else lies below the prefix."""
    slash = " Addresses do not end in a slash." if rest.endswith("/") else ""
    return _failure(errors.not_found(f"There is nothing at this address.{slash} See {DOCUMENT}."))


def document(request: HttpRequest, **_: str) -> HttpResponse:
    """The description of the API. It names no task, queue or user, so anybody may read it."""
    return _json(200, openapi.document(request.path.removesuffix(DOCUMENT)))


def _view(handlers: dict[str, View]) -> View:
    if "GET" in handlers:
        handlers = {**handlers, "HEAD": handlers["GET"]}  # servers leave the body out
    allowed = {"Allow": ", ".join(sorted({*handlers, "OPTIONS"}))}

    def view(request: HttpRequest, **path: str) -> HttpResponse:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={**HEADERS, **allowed})
        handler = handlers.get(str(request.method))
        if handler is None:
            text = f"{request.method} is not possible here, but {allowed['Allow']}."
            return _failure(ApiError(405, "method_not_allowed", text, headers=allowed))
        try:
            return handler(request, **path)
        except Exception as error:  # noqa: BLE001 - the last resort of a server
            return _failed(request, error)

    # Sessions are held to the CSRF token by authenticate(); what was sent is sent, whatever the rest of a request does.
    return csrf_exempt(transaction.non_atomic_requests(view))


document_view = _view({"GET": document})
unknown_view = csrf_exempt(unknown)


def _answering(route: Route) -> View:
    def answer(request: HttpRequest, **path: str) -> HttpResponse:
        refuse_multipart(request)
        actor = authenticate(request)
        actor.require(route.permissions)
        given = arguments(request, route, path)
        if "actor" in route.hints:
            given["actor"] = actor
        result = route.handler(**given)
        response = _json(route.status, result)
        if route.location:
            prefix = request.path.removesuffix(route.path.format(**path))
            response["Location"] = prefix + route.location.format(id=result.id)
        return response

    return answer


def _failed(request: HttpRequest, error: Exception) -> HttpResponse:
    known = errors.of(error)
    if known is None:
        # As Django does it for a page, so that whoever listens for errors hears of it.
        signals.got_request_exception.send(sender=None, request=request)
        response = _failure(ApiError(500, "internal_error", "Something went wrong; the site's log has more."))
        log_response(
            "%s: %s", response.reason_phrase, request.path, response=response, request=request, exception=error
        )
        return response
    if known.status >= 500:
        logger.warning("%s %s: %s", request.method, request.path, error)
    return _failure(known)


def _failure(error: ApiError) -> HttpResponse:
    return _json(
        error.status, Failure(Error(code=error.code, message=error.message, required=error.required, id=error.id)),
        error.headers,
    )  # fmt: skip


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(
        _encode(content), content_type="application/json", status=status, headers={**HEADERS, **(headers or {})}
    )
